"""The exact hypergradient: closed form, both solvers, retraining, and a flag where there is no minimum."""

from functools import partial

import numpy as np
import pytest
import torch

from simulator.data.base import Dataset, NodeIndices, Partition, Samples
from simulator.graphs.ring import Ring
from simulator.hypergradients.exact import exact_hypergradient
from simulator.models.logistic_regression import LogisticRegression
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.l2_decay import L2Decay
from simulator.problems.quadratic import Quadratic

CPU = torch.device("cpu")
METHODS = ("dense", "iterative")


def network_of(num_nodes):
    return Network(Ring(num_nodes=num_nodes), Placement(num_nodes), CPU)


def quadratic(num_nodes=4, dtype=torch.float64):
    problem = Quadratic(
        dim=6, num_hyperparameters=3, condition=10.0, heterogeneity=1.0, noise=0.5, outer_regularization=0.3
    )
    problem.setup(Setting(nodes=range(num_nodes), num_nodes=num_nodes, seed=1, dtype=dtype, device=CPU))
    return problem


def minimiser(problem, hparams):
    """x* of the mean objective, in NumPy."""
    pull = problem.linear.numpy() + np.einsum("ndh,nh->nd", problem.coupling.numpy(), hparams.numpy())
    return np.linalg.solve(problem.hessian.numpy().mean(0), pull.mean(0))


@pytest.mark.parametrize("method", METHODS)
def test_closed_form_on_a_quadratic(method):
    problem = quadratic()
    hparams = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = minimiser(problem, hparams)
    params = torch.from_numpy(x).expand(4, 6).contiguous()
    reference = exact_hypergradient(problem, network_of(4), params, hparams, method=method, tolerance=1e-12)
    w = np.linalg.solve(problem.hessian.numpy().mean(0), x - problem.target.numpy().mean(0))
    expected = (0.3 * hparams.numpy() + np.einsum("ndh,d->nh", problem.coupling.numpy(), w)) / 4
    np.testing.assert_allclose(reference.hypergradient.numpy(), expected, rtol=1e-9, atol=1e-10)
    assert reference.positive_definite
    assert reference.residual < 1e-10


def test_closed_form_is_the_difference_of_the_outer_objective():
    problem = quadratic()
    hparams = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def outer(h):
        params = torch.from_numpy(minimiser(problem, h)).expand(4, 6)
        return problem.evaluate(params, h)["outer/loss"].mean().item()

    params = torch.from_numpy(minimiser(problem, hparams)).expand(4, 6).contiguous()
    found = exact_hypergradient(problem, network_of(4), params, hparams, method="dense").hypergradient
    for node, column in ((0, 0), (3, 2), (1, 1)):
        shift = torch.zeros_like(hparams)
        shift[node, column] = 1e-4
        difference = (outer(hparams + shift) - outer(hparams - shift)) / 2e-4
        assert found[node, column].item() == pytest.approx(difference, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_an_indefinite_system_is_solved_and_flagged(method):
    problem = quadratic()
    problem.hessian = problem.hessian.clone()
    for node in range(4):
        problem.hessian[node] -= 4.0 * torch.eye(6, dtype=torch.float64)
    eigenvalues = np.linalg.eigvalsh(problem.hessian.numpy().mean(0))
    assert eigenvalues[0] < -0.1
    assert eigenvalues[-1] > 0.1
    params, hparams = torch.ones(4, 6, dtype=torch.float64), problem.init_hparams()
    reference = exact_hypergradient(problem, network_of(4), params, hparams, method=method, tolerance=1e-12)
    assert not reference.positive_definite
    w = np.linalg.solve(problem.hessian.numpy().mean(0), 1 - problem.target.numpy().mean(0))
    expected = np.einsum("ndh,d->nh", problem.coupling.numpy(), w) / 4
    np.testing.assert_allclose(reference.hypergradient.numpy(), expected, rtol=1e-7, atol=1e-8)
    assert reference.residual < 1e-8


def test_an_iteration_that_is_cut_short_says_so():
    problem = quadratic()
    params, hparams = problem.init_params(), problem.init_hparams()
    arguments = (problem, network_of(4), params, hparams)
    assert exact_hypergradient(*arguments, method="iterative", max_iterations=2).residual > 1e-3


def test_single_precision_is_solved_in_double():
    problem, double = quadratic(dtype=torch.float32), quadratic()
    params = torch.ones(4, 6)
    found = exact_hypergradient(problem, network_of(4), params, problem.init_hparams(), method="dense")
    expected = exact_hypergradient(double, network_of(4), params.double(), double.init_hparams(), method="dense")
    assert found.hypergradient.dtype == torch.float64
    torch.testing.assert_close(found.hypergradient, expected.hypergradient, rtol=1e-5, atol=1e-6)


def test_nothing_is_counted_as_algorithm_traffic_and_nothing_is_changed():
    problem, network = quadratic(), network_of(4)
    params, hparams = problem.init_params() + 1, problem.init_hparams() + 1
    exact_hypergradient(problem, network, params, hparams, method="iterative")
    assert network.ledger.bytes == 0
    assert (params == 1).all()
    assert (hparams == 1).all()
    assert not params.requires_grad


class Drawn(Dataset):
    def load(self):
        rng = np.random.default_rng(5)
        x = rng.standard_normal((60, 3))
        y = (x @ rng.standard_normal(3) + 0.5 * rng.standard_normal(60) > 0).astype(np.int64)
        return Samples(inputs=torch.from_numpy(x), labels=torch.from_numpy(y), num_classes=2, num_train=60)


class Thirds(Partition):
    def split(self, samples, num_nodes):
        thirds = [np.arange(20 * node, 20 * node + 20) for node in range(num_nodes)]
        return tuple(NodeIndices(rows[:12], rows[12:], rows[:0]) for rows in thirds)


def logistic():
    problem = L2Decay(batch_size=None, drop_last=False, weight_decay=0.05, outer_split="valid")
    setting = Setting(
        nodes=range(3),
        num_nodes=3,
        seed=0,
        dtype=torch.float64,
        device=CPU,
        dataset=Drawn(),
        partition=Thirds(),
        build_model=partial(LogisticRegression),
        compute="vmap",
    )
    problem.setup(setting)
    return problem


def retrain(hparams, start=None):
    """The minimiser of the mean regularised loss, by Newton's method on a loss written here."""
    samples = Drawn().load()

    def inner(row):
        weight, bias = row[:6].view(2, 3), row[6:]
        total = 0.0
        for node in range(3):
            rows = slice(20 * node, 20 * node + 12)
            log_chances = torch.log_softmax(samples.inputs[rows] @ weight.T + bias, 1)
            loss = -log_chances[torch.arange(12), samples.labels[rows]].mean()
            total = total + loss + (0.05 + hparams[node, 0]) / 2 * (row * row).sum()
        return total / 3

    row = torch.zeros(8, dtype=torch.float64) if start is None else start
    for _ in range(9 if start is None else 3):
        leaf = row.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(inner(leaf), leaf)
        row = row - torch.linalg.solve(torch.autograd.functional.hessian(inner, row), gradient)
    assert gradient.abs().max() < 1e-12
    return row


def test_the_hypergradient_predicts_what_retraining_finds():
    problem = logistic()
    hparams = torch.tensor([[0.1], [0.3], [0.02]], dtype=torch.float64)
    start = retrain(hparams)

    def outer(h):
        return problem.evaluate(retrain(h, start).expand(3, 8).contiguous(), h)["valid/loss"].mean().item()

    differences = []
    for node in range(3):
        shift = torch.zeros_like(hparams)
        shift[node] = 1e-4
        differences.append((outer(hparams + shift) - outer(hparams - shift)) / 2e-4)
    params = start.expand(3, 8).contiguous()
    for method in METHODS:
        found = exact_hypergradient(problem, network_of(3), params, hparams, method=method, tolerance=1e-12)
        np.testing.assert_allclose(found.hypergradient[:, 0].numpy(), differences, rtol=1e-5, atol=1e-8)
