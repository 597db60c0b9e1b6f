"""The quadratic bilevel problem: checksums, closed forms, and finite differences of its hypergradients."""

import numpy as np
import pytest
import torch

from simulator.problems.base import Setting
from simulator.problems.bilevel_quadratic import BilevelQuadratic

PARTS = ("curvature", "coupling", "linear", "outer_curvature", "target", "center")


def make(nodes=range(8), num_nodes=8, dtype=torch.float64, **changes):
    arguments = {
        "dim": 20,
        "num_hyperparameters": 6,
        "heterogeneous_curvature": True,
        "outer_regularization": 0.1,
        "penalty": 100.0,
        "lower_level": "shared",
        **changes,
    }
    problem = BilevelQuadratic(**arguments)
    problem.setup(Setting(nodes=nodes, num_nodes=num_nodes, seed=0, dtype=dtype, device=torch.device("cpu")))
    return problem


def point(problem, seed=0):
    rng = np.random.default_rng(seed)
    sizes = (problem.num_params, problem.num_hparams, problem.num_params)
    return [torch.from_numpy(rng.standard_normal((len(problem.linear), size))) for size in sizes]


def numpy_parts(problem):
    return [getattr(problem, name).numpy() for name in PARTS]


def inner(parts, y, x):
    """g_i of every node, [N]."""
    A, B, c = parts[:3]
    return np.einsum("na,nab,nb->n", y, A, y) / 2 - np.einsum("na,na->n", y, np.einsum("nab,nb->na", B, x) + c)


def outer(parts, y, x, rho=0.1):
    """f_i of every node, [N]."""
    D, t, r = parts[3:]
    return np.einsum("na,nab,nb->n", y - t, D, y - t) / 2 + rho / 2 * ((x - r) ** 2).sum(1)


def test_the_instance_has_the_known_sums():
    problem = make()
    expected = (246.96252816, -16.94606299, 12.69759615, 171.52748576, -0.81626637, 9.90453674)
    for name, total in zip(PARTS, expected, strict=True):
        assert getattr(problem, name).sum().item() == pytest.approx(total, abs=1.01e-8)
    assert problem.curvature[0, 0, 0].item() == pytest.approx(2.8528457892, abs=1e-10)
    assert torch.linalg.eigvalsh(problem.curvature).max().item() == pytest.approx(6.238034, abs=1e-6)


def test_entries_are_those_of_the_formulas():
    problem, i, a, b, k = make(), 5, 3, 11, 4
    m = i + 1
    rows = [np.sin(1.3 * a + 2.1 * np.arange(20) + 0.37 * a * np.arange(20) + s) for s in (0.4, 0.7 * m)]
    columns = [np.sin(1.3 * b + 2.1 * np.arange(20) + 0.37 * b * np.arange(20) + s) for s in (0.4, 0.7 * m)]
    assert problem.curvature[i, a, b].item() == pytest.approx(sum(rows) @ sum(columns) / 20, rel=1e-12)
    waves = sum(np.cos(0.9 * a + 1.7 * k + 0.23 * a * k + s) for s in (0.3, 0.8 * m))
    assert problem.coupling[i, a, k].item() == pytest.approx(waves / np.sqrt(6), rel=1e-12)


def test_curvature_may_be_the_same_at_all_nodes():
    alike = make(heterogeneous_curvature=False)
    for name in ("curvature", "coupling"):
        part = getattr(alike, name)
        torch.testing.assert_close(part, part[:1].expand_as(part), rtol=0, atol=0)
    assert not torch.equal(alike.linear[0], alike.linear[1])
    assert torch.equal(alike.linear, make().linear)


def test_gradients_are_differences_of_the_objectives():
    problem = make()
    params, hparams, vector = point(problem)
    parts, y, x, v = numpy_parts(problem), params.numpy(), hparams.numpy(), vector.numpy()
    direction = np.random.default_rng(1).standard_normal(x.shape)
    # All objectives are quadratic, so that central differences are exact.
    for function, found in (
        (inner, problem.inner_grads(params, hparams, None)),
        (outer, problem.outer_grads(params, hparams)),
    ):
        along_y = (function(parts, y + v, x) - function(parts, y - v, x)) / 2
        along_x = (function(parts, y, x + direction) - function(parts, y, x - direction)) / 2
        np.testing.assert_allclose((found[0].numpy() * v).sum(1), along_y, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose((found[1].numpy() * direction).sum(1), along_x, rtol=1e-10, atol=1e-10)
    assert torch.equal(problem.grad(params, hparams, 7), problem.inner_grads(params, hparams, None)[0])


def test_second_order_products_are_differences_of_gradients():
    problem = make()
    params, hparams, vector = point(problem)
    along_params, along_hparams = problem.second_order(params, hparams, vector, None)
    base, after = (problem.inner_grads(p, hparams, None) for p in (params, params + vector))
    torch.testing.assert_close(after[0] - base[0], along_params, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(after[1] - base[1], along_hparams, rtol=1e-11, atol=1e-11)


def dense_phi(parts, x, penalty=None):
    """Phi(x), or Psi(x), with NumPy and for one x."""
    A, B, c, D, t, _ = parts
    every = [np.tile(x, (len(A), 1))]
    y = np.linalg.solve(A.mean(0), B.mean(0) @ x + c.mean(0))
    if penalty is None:
        return outer(parts, np.tile(y, (len(A), 1)), every[0]).mean()
    pull = np.einsum("nab,nb->a", D, t) / len(A) + penalty * (B.mean(0) @ x + c.mean(0))
    z = np.linalg.solve(D.mean(0) + penalty * A.mean(0), pull)
    y, z = (np.tile(row, (len(A), 1)) for row in (y, z))
    gap = inner(parts, z, every[0]).mean() - inner(parts, y, every[0]).mean()
    return outer(parts, z, every[0]).mean() + penalty * gap


def personal_phi(parts, x, penalty=None):
    """The mean over nodes of Phi(x), or Psi(x), of a problem that has this node alone."""
    return np.mean([dense_phi([part[i : i + 1] for part in parts], x, penalty) for i in range(len(parts[0]))])


PHI = {"shared": dense_phi, "personal": personal_phi}


@pytest.mark.parametrize(
    ("lower_level", "heterogeneous", "penalty"),
    [
        ("shared", True, 10.0),
        ("shared", False, 10.0),
        ("shared", True, 1000.0),
        ("shared", False, 1000.0),
        ("personal", True, 10.0),
    ],
)
def test_hypergradients_are_differences_of_phi_and_psi(lower_level, heterogeneous, penalty):
    problem = make(lower_level=lower_level, heterogeneous_curvature=heterogeneous, penalty=penalty)
    parts, x = numpy_parts(problem), np.random.default_rng(2).standard_normal(6)
    at, phi = torch.from_numpy(x)[None], PHI[lower_level]
    for function, gradient in (
        (lambda p: phi(parts, p), problem.outer_gradient(at)),
        (lambda p: phi(parts, p, penalty), problem.penalty_gradient(at)),
    ):
        differences = [(function(x + step) - function(x - step)) / 2e-2 for step in np.eye(6) * 1e-2]
        # Both functions are quadratic; what remains is the rounding of values that Psi multiplies with the penalty.
        np.testing.assert_allclose(gradient[0].numpy(), differences, rtol=0, atol=1e-8)
    assert problem.outer_value(at).item() == pytest.approx(phi(parts, x), rel=1e-12)


def test_the_gradient_of_phi_comes_from_averages_of_the_nodes_products():
    """With the problem's own oracles, as an algorithm would assemble it."""
    problem = make()
    x = torch.from_numpy(np.random.default_rng(3).standard_normal((1, 6))).expand(8, -1)
    y = problem.inner_optimum(x)
    torch.testing.assert_close(problem.grad(y, x, None).mean(0), torch.zeros(20).double(), rtol=0, atol=1e-12)
    grad_params, grad_hparams = problem.outer_grads(y, x)
    columns = [
        problem.hvp(y, x, unit.expand(8, -1), None).mean(0) for unit in torch.eye(20, dtype=torch.float64)[:, None]
    ]
    adjoint = torch.linalg.solve(torch.stack(columns, 1), grad_params.mean(0))
    expected = grad_hparams.mean(0) - problem.cross_jvp(y, x, adjoint.expand(8, -1), None).mean(0)
    torch.testing.assert_close(problem.outer_gradient(x)[0], expected, rtol=1e-11, atol=1e-11)


def test_evaluation_measures_distances_to_the_solutions():
    problem = make()
    optimum, penalty_optimum = problem.solutions
    zero = problem.outer_gradient(optimum[None])
    torch.testing.assert_close(zero, torch.zeros_like(zero), rtol=0, atol=1e-12)
    zero = problem.penalty_gradient(penalty_optimum[None])
    torch.testing.assert_close(zero, torch.zeros_like(zero), rtol=0, atol=1e-12)
    x = torch.stack([optimum, penalty_optimum, *[optimum + 1] * 6])
    y = problem.inner_optimum(x)
    y[7] += 2
    found = problem.evaluate(y, x)
    bias = (optimum - penalty_optimum).norm().item()
    assert problem.facts().numbers["penalty/bias"] == bias
    assert found["outer/distance"].tolist() == pytest.approx([0, bias, *[6**0.5] * 6], abs=1e-12)
    assert found["penalty/distance"][1].item() == 0
    assert found["inner/distance"].tolist() == pytest.approx([*[0] * 7, 80**0.5], abs=1e-12)
    torch.testing.assert_close(found["outer/grad_norm"], problem.outer_gradient(x).norm(dim=1))
    torch.testing.assert_close(found["penalty/grad_norm"], problem.penalty_gradient(x).norm(dim=1))
    assert found["outer/loss"].argmin() == 0
    assert problem.reports_iterates


def test_the_bias_of_the_penalty_falls_with_its_inverse():
    biases = [make(penalty=penalty).facts().numbers["penalty/bias"] for penalty in (1e3, 1e4)]
    assert biases[0] / biases[1] == pytest.approx(10, rel=0.02)


def test_personal_lower_levels_have_an_optimum_at_every_node():
    problem = make(lower_level="personal")
    A, B, c = numpy_parts(problem)[:3]
    x = np.random.default_rng(4).standard_normal((8, 6))
    expected = [np.linalg.solve(A[i], B[i] @ x[i] + c[i]) for i in range(8)]
    np.testing.assert_allclose(problem.inner_optimum(torch.from_numpy(x)).numpy(), expected, rtol=1e-11, atol=1e-11)
    optimum, penalty_optimum = problem.solutions
    for gradient in (problem.outer_gradient(optimum[None]), problem.penalty_gradient(penalty_optimum[None])):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)
    assert (optimum - make().solutions[0]).norm() > 0.1


@pytest.mark.parametrize("lower_level", ["shared", "personal"])
def test_a_process_that_hosts_some_nodes_knows_all_solutions(lower_level):
    whole, part = make(lower_level=lower_level), make(nodes=range(3, 5), lower_level=lower_level)
    params, hparams, _ = point(whole)
    here = slice(3, 5)
    for name, values in part.evaluate(params[here], hparams[here]).items():
        torch.testing.assert_close(values, whole.evaluate(params, hparams)[name][here], rtol=1e-12, atol=1e-12)
    found, expected = (p.inner_grads(params[here], hparams[here], None)[0] for p in (part, make(nodes=range(3, 5))))
    assert torch.equal(found, expected)
    torch.testing.assert_close(found, whole.grad(params, hparams, None)[here], rtol=1e-13, atol=1e-13)


def test_steps_add_in_place_and_keep_the_dtype():
    problem = make(dtype=torch.float32)
    params, hparams = problem.init_params(), problem.init_hparams()
    assert (params.shape, hparams.shape, params.dtype) == ((8, 20), (8, 6), torch.float32)
    gradient = problem.grad(params, hparams, 0)
    problem.add_grad_(params, params, hparams, 0, -0.5)
    torch.testing.assert_close(params, -0.5 * gradient)
    assert problem.evaluate(params, hparams)["outer/loss"].dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "problem.dim=0"),
        ({"num_hyperparameters": 0}, "problem.num_hyperparameters=0: expected at least 1"),
        ({"outer_regularization": 0.0}, "problem.outer_regularization=0.0: expected a positive number"),
        ({"penalty": 0.0}, "problem.penalty=0.0: expected a positive number"),
        ({"lower_level": "own"}, "problem.lower_level='own': expected shared, personal"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        make(**change)
