"""Where bilevel problems are evaluated, and that some of the nodes compute there what all of them do."""

from functools import partial

import numpy as np
import torch

assert_equal = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


def point(problem, seed=0):
    """Parameters, hyperparameters and a direction of the local nodes, all normal."""
    rng = np.random.default_rng(seed)
    sizes = (problem.num_params, problem.num_hparams, problem.num_params)
    return [torch.from_numpy(rng.standard_normal((len(problem.init_params()), size))) for size in sizes]


def assert_same_elsewhere(part, whole, here):
    """``part`` has the nodes ``here`` of ``whole`` alone."""
    params, hparams, vector = point(whole)
    for step in (4, None):
        for found, expected in (
            (part.inner_grads(params[here], hparams[here], step), whole.inner_grads(params, hparams, step)),
            (part.outer_grads(params[here], hparams[here], step), whole.outer_grads(params, hparams, step)),
            ([part.grad(params[here], hparams[here], step)], [whole.grad(params, hparams, step)]),
            (
                part.second_order(params[here], hparams[here], vector[here], step),
                whole.second_order(params, hparams, vector, step),
            ),
        ):
            for values, every in zip(found, expected, strict=True):
                assert_equal(values, every[here])
