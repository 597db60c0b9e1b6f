"""The quadratic problem against its formulas."""

import numpy as np
import pytest
import torch

from simulator.problems.base import Setting
from simulator.problems.quadratic import Quadratic


def make(nodes=range(6), num_nodes=6, seed=0, dtype=torch.float64, **changes):
    arguments = {
        "dim": 5,
        "num_hyperparameters": 3,
        "condition": 20.0,
        "heterogeneity": 1.5,
        "noise": 0.0,
        "outer_regularization": 0.2,
        **changes,
    }
    problem = Quadratic(**arguments)
    problem.setup(Setting(nodes=nodes, num_nodes=num_nodes, seed=seed, dtype=dtype, device=torch.device("cpu")))
    return problem


def point(problem, seed=0):
    rng = torch.Generator().manual_seed(seed)
    shapes = (problem.num_params, problem.num_hparams, problem.num_params)
    return [torch.randn(len(problem.init_params()), size, generator=rng, dtype=torch.float64) for size in shapes]


def test_gradients_are_those_of_the_reported_losses():
    problem = make()
    params, hparams, vector = point(problem)
    grad = problem.grad(params, hparams, None)
    outer_params, outer_hparams = problem.outer_grads(params, hparams)
    direction = torch.randn(hparams.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    epsilon = 1e-5

    def difference(name, p, h):
        plus, minus = (problem.evaluate(params + s * epsilon * p, hparams + s * epsilon * h)[name] for s in (1, -1))
        return (plus - minus) / (2 * epsilon)

    nothing = 0 * direction
    torch.testing.assert_close(difference("train/loss", vector, nothing), (grad * vector).sum(1), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(
        difference("outer/loss", vector, direction),
        (outer_params * vector).sum(1) + (outer_hparams * direction).sum(1),
        rtol=1e-7,
        atol=1e-7,
    )


def test_both_inner_gradients_are_those_of_the_reported_loss():
    problem = make(noise=0.7)
    params, hparams, _ = point(problem)
    grad_params, grad_hparams = problem.inner_grads(params, hparams, None)
    assert torch.equal(grad_params, problem.grad(params, hparams, None))
    assert torch.equal(problem.inner_grads(params, hparams, 3)[0], problem.grad(params, hparams, 3))
    direction = torch.randn(hparams.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    plus, minus = (problem.evaluate(params, hparams + sign * direction)["train/loss"] for sign in (1, -1))
    # The loss is linear in the hyperparameters, so that the difference is exact.
    torch.testing.assert_close((plus - minus) / 2, (grad_hparams * direction).sum(1), rtol=1e-11, atol=1e-11)


def test_second_order_products_are_differences_of_gradients():
    problem = make()
    params, hparams, vector = point(problem)
    along_params, along_hparams = problem.second_order(params, hparams, vector, None)
    base = problem.grad(params, hparams, None)
    # The gradient is linear, so that differences are exact.
    torch.testing.assert_close(
        problem.grad(params + vector, hparams, None) - base, along_params, rtol=1e-11, atol=1e-11
    )
    for column in range(3):
        shift = torch.zeros_like(hparams)
        shift[:, column] = 1
        change = problem.grad(params, hparams + shift, None) - base
        torch.testing.assert_close((change * vector).sum(1), along_hparams[:, column], rtol=1e-11, atol=1e-11)


def test_curvatures_lie_between_one_and_the_condition():
    matrices = make().hessian.numpy()
    for matrix in matrices:
        np.testing.assert_allclose(matrix, matrix.T, rtol=0, atol=1e-13)
        np.testing.assert_allclose(np.linalg.eigvalsh(matrix), np.linspace(1, 20, 5), rtol=1e-12)
    assert not np.allclose(matrices[0], matrices[1])


def test_heterogeneity_spreads_the_minimisers():
    def minimisers(heterogeneity):
        problem = make(heterogeneity=heterogeneity)
        return torch.linalg.solve(problem.hessian, problem.linear)

    alike = minimisers(0.0)
    torch.testing.assert_close(alike, alike[:1].expand_as(alike), rtol=1e-11, atol=1e-11)
    once, twice = minimisers(1.0) - alike, minimisers(2.0) - alike
    torch.testing.assert_close(twice, 2 * once, rtol=1e-10, atol=1e-10)
    assert once.abs().max() > 0.5


def test_noise_has_the_wanted_moments_and_is_pure_in_the_step():
    noisy, exact = make(noise=0.7), make()
    params, hparams, _ = point(noisy)
    clean = exact.grad(params, hparams, None)
    torch.testing.assert_close(noisy.grad(params, hparams, None), clean, rtol=0, atol=0)
    noise = torch.stack([noisy.grad(params, hparams, step) - clean for step in range(1000)])
    assert noise.mean().abs() < 4 * 0.7 / 30000**0.5
    assert noise.std().item() == pytest.approx(0.7, rel=0.02)
    assert torch.equal(noisy.grad(params, hparams, 3) - clean, noise[3])
    part = make(noise=0.7, nodes=range(4, 6))
    torch.testing.assert_close(
        part.grad(params[4:], hparams[4:], 3), noisy.grad(params, hparams, 3)[4:], rtol=1e-13, atol=1e-13
    )


def test_adding_in_place_is_adding_elsewhere():
    problem = make()
    params, hparams, out = point(problem)
    step = -0.3 * problem.grad(params, hparams, None)
    problem.add_grad_(out_of_place := out.clone(), params, hparams, None, -0.3)
    torch.testing.assert_close(out_of_place, out + step, rtol=1e-13, atol=1e-13)
    problem.add_grad_(in_place := params.clone(), in_place, hparams, None, -0.3)
    torch.testing.assert_close(in_place, params + step, rtol=1e-13, atol=1e-13)


def test_starts_and_sizes():
    problem = make(num_hyperparameters=0, dtype=torch.float32)
    assert problem.init_params().shape == (6, 5)
    assert problem.init_hparams().shape == (6, 0)
    assert problem.grad(problem.init_params(), problem.init_hparams(), 0).dtype == torch.float32
    assert not torch.equal(make(seed=1).linear, make().linear)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "problem.dim=0"),
        ({"num_hyperparameters": -1}, "problem.num_hyperparameters=-1"),
        ({"condition": 0.5}, "problem.condition=0.5: expected at least 1"),
        ({"noise": -1.0}, "not negative"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make(**change)
