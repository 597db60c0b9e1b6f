"""Random quadratics: means and second moments of their gradients, and samples that belong to nodes and steps."""

import numpy as np
import pytest
import torch

from simulator.problems.base import Setting
from simulator.problems.random_quadratic import RandomQuadratic

VARIANCES = (2.0, 0.5, 1.0)


def make(nodes=range(4), num_nodes=4, *, dim=3, batch_size=2, feature_variances=VARIANCES, seed=0, dtype=torch.float64):
    problem = RandomQuadratic(dim=dim, batch_size=batch_size, feature_variances=feature_variances)
    problem.setup(Setting(nodes=nodes, num_nodes=num_nodes, seed=seed, dtype=dtype, device=torch.device("cpu")))
    return problem


def gradients(problem, x, steps):
    """Of all nodes at one x, [steps, N, D]."""
    params = torch.tensor(x, dtype=torch.float64).repeat(len(problem.init_params()), 1)
    return torch.stack([problem.grad(params, problem.init_hparams(), step) for step in range(steps)]).numpy()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_gradients_have_the_moments_of_normal_samples(batch_size):
    """Mean S x, covariance (S x x' S + (x' S x) S) / b; tolerances of five standard errors of 40,000 gradients."""
    x, S = np.array([0.5, -1.0, 0.3]), np.diag(VARIANCES)
    problem = make(range(200), 200, batch_size=batch_size)
    found = gradients(problem, x, 200).reshape(-1, 3)
    covariance = (S @ np.outer(x, x) @ S + (x @ S @ x) * S) / batch_size
    errors = np.sqrt(covariance.diagonal() / len(found))
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - S @ x), 5 * errors)
    products = np.einsum("tk,tl->tkl", found - S @ x, found - S @ x)
    errors = products.std(axis=0) / np.sqrt(len(found))
    np.testing.assert_array_less(np.abs(products.mean(axis=0) - covariance), 5 * errors)
    full = problem.grad(torch.from_numpy(np.tile(x, (200, 1))), problem.init_hparams(), None)
    torch.testing.assert_close(full[7], torch.from_numpy(S @ x))


def test_nodes_and_steps_have_samples_of_their_own():
    found = gradients(make(), [1.0, 1.0, 1.0], 5)
    assert len(np.unique(found.reshape(20, 3), axis=0)) == 20
    np.testing.assert_array_equal(gradients(make(), [1.0, 1.0, 1.0], 5), found)
    np.testing.assert_array_equal(gradients(make(range(1, 3)), [1.0, 1.0, 1.0], 5), found[:, 1:3])
    assert not np.isclose(gradients(make(seed=1), [1.0, 1.0, 1.0], 5), found).any()


def test_copies_draw_from_their_streams():
    problem, x = make(), [1.0, 2.0, 3.0]
    copies = gradients(problem.replicate([0, 2]), x, 3)
    np.testing.assert_array_equal(copies[:, 0::2], gradients(problem, x, 3))
    # Stream 2 of node i is what node i + 2 * 4 of a larger network draws.
    np.testing.assert_array_equal(copies[:, 1::2], gradients(make(range(8, 12), 12), x, 3))


def test_gradients_may_be_added_to_the_parameters_themselves():
    problem = make(batch_size=5)
    params = torch.arange(12, dtype=torch.float64).reshape(4, 3)
    expected = params - 0.1 * problem.grad(params, problem.init_hparams(), 2)
    problem.add_grad_(params, params, problem.init_hparams(), 2, -0.1)
    torch.testing.assert_close(params, expected)


def test_the_loss_is_that_of_the_full_gradient_and_starts_at_length_one():
    problem = make()
    params = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(problem.evaluate(params, problem.init_hparams())["train/loss"].sum(), params)
    torch.testing.assert_close(gradient, problem.grad(params.detach(), problem.init_hparams(), None))
    torch.testing.assert_close(problem.init_params().norm(dim=1), torch.ones(4, dtype=torch.float64))
    plain = make(feature_variances=(), dtype=torch.float32)
    assert plain.init_params().dtype == torch.float32
    torch.testing.assert_close(
        plain.evaluate(plain.init_params(), plain.init_hparams())["train/loss"], torch.full((4,), 0.5)
    )


def test_bad_settings_are_refused():
    for changes in ({"dim": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="expected at least 1"):
            make(**changes)
    for variances in ([1.0], [1.0, 0.0, 1.0]):
        with pytest.raises(ValueError, match=r"problem\.feature_variances=.*as many as problem\.dim=3"):
            make(feature_variances=variances)
