"""Hypergradient push against dense float64 NumPy with the same W_t, on quadratics and on logistic regression."""

import numpy as np
import pytest
import torch
from scipy.special import expit

from simulator.data.partitions.as_given import AsGiven
from simulator.data.sampling import MinibatchSampler
from simulator.data.synthetic_mixture import SyntheticMixture
from simulator.graphs.base import Edges, Graph
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.self_loop import SelfLoop
from simulator.hypergradients.exact import exact_hypergradient
from simulator.hypergradients.push import push_hypergradient
from simulator.models.linear_binary import LinearBinary
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.l2_decay import L2Decay
from simulator.problems.quadratic import Quadratic

CPU = torch.device("cpu")
NUM_NODES, SEED = 5, 4

pytestmark = pytest.mark.usefixtures("one_thread")


def setting(**further):
    return Setting(nodes=range(NUM_NODES), num_nodes=NUM_NODES, seed=SEED, dtype=torch.float64, device=CPU, **further)


def random_rows(columns, seed=0):
    return torch.randn(NUM_NODES, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def directed():
    return RandomDirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.7, seed=SEED)


def network_on(graph):
    return Network(graph, Placement(graph.num_nodes), CPU)


class QuadraticCase:
    """A quadratic and its derivatives in NumPy."""

    def __init__(self):
        self.problem = Quadratic(
            dim=4, num_hyperparameters=2, condition=3.0, heterogeneity=1.0, noise=0.0, outer_regularization=0.3
        )
        self.problem.setup(setting())
        self.params, self.hparams = random_rows(4), random_rows(2, seed=1)
        self.step_size = 0.3

    def outer(self, i):
        """Derivatives of F_i + r_i with respect to parameters and hyperparameters."""
        return self.params[i].numpy() - self.problem.target[i].numpy(), 0.3 * self.hparams[i].numpy()

    def hessian(self, i, batch):
        return self.problem.hessian[i].numpy()

    def cross(self, i, batch):
        """Row a is the derivative of the gradient with respect to hyperparameter a, [H, D]."""
        return -self.problem.coupling[i].numpy().T


class LogisticCase:
    """Binary logistic regression with a decay per node; gradient and Hessian by hand."""

    def __init__(self):
        data = SyntheticMixture(
            num_nodes=NUM_NODES,
            dim=3,
            num_components=3,
            alpha=0.4,
            noise=0.1,
            num_train=22,
            num_valid=15,
            num_test=2,
            box=2.0,
            legacy_labels=False,
            seed=7,
        )
        self.problem = L2Decay(batch_size=8, drop_last=False, weight_decay=0.05, outer_split="valid")
        self.problem.setup(setting(dataset=data, partition=AsGiven(), build_model=LinearBinary, compute="vmap"))
        self.params, self.hparams = random_rows(4), random_rows(1, seed=1).abs()
        self.step_size = 0.4
        self.sampler = MinibatchSampler(
            self.problem.data.train, range(NUM_NODES), batch_size=8, drop_last=False, seed=SEED
        )

    def samples(self, i, batch):
        """Features with a column of ones [B, D], and labels [B], of a minibatch."""
        (drawn,) = self.sampler.batches(batch, torch.float64)
        size = drawn.sizes[i]
        return self.with_bias(drawn.inputs[i, :size]), drawn.labels[i, :size].numpy()

    def with_bias(self, inputs):
        return np.concatenate([inputs.numpy(), np.ones((len(inputs), 1))], axis=1)

    def outer(self, i):
        split = self.problem.data.valid
        rows = slice(int(split.offsets[i]), int(split.offsets[i] + split.sizes[i]))
        X, y = self.with_bias(split.inputs[rows]), split.labels[rows].numpy()
        return X.T @ (expit(X @ self.params[i].numpy()) - y) / len(y), np.zeros(1)

    def hessian(self, i, batch):
        X, _ = self.all_samples(i) if batch is None else self.samples(i, batch)
        p = expit(X @ self.params[i].numpy())
        decay = 0.05 + float(self.hparams[i])
        return (X.T * (p * (1 - p))) @ X / len(X) + decay * np.eye(4)

    def all_samples(self, i):
        split = self.problem.data.train
        rows = slice(int(split.offsets[i]), int(split.offsets[i] + split.sizes[i]))
        return self.with_bias(split.inputs[rows]), split.labels[rows].numpy()

    def cross(self, i, batch):
        return self.params[i].numpy()[None, :]


def numpy_push(
    case, matrices, *, depth, num_pushes, preserving=False, batches="full", reset=True, step_size=None, first_batch=0
):
    """The algorithm in dense algebra: ``matrices`` is an iterator of W_t, ``batches`` is full, joint or independent."""
    n, a = NUM_NODES, step_size or case.step_size
    outer = [case.outer(i) for i in range(n)]
    u = np.stack([g for g, _ in outer]) / n
    v = np.stack([g for _, g in outer]) / n
    w = np.ones(n)
    batch = first_batch
    for _ in range(depth):
        if reset and not preserving:
            w = np.ones(n)
        for _ in range(num_pushes):
            P = next(matrices)
            u, w = P @ u, P @ w
        s = u / w[:, None]
        cross_batch = hessian_batch = None
        if batches == "joint":
            cross_batch = hessian_batch = batch
            batch += 1
        elif batches == "independent":
            cross_batch, hessian_batch = batch, batch + 1
            batch += 2
        v = v - a * np.stack([case.cross(i, cross_batch) @ s[i] for i in range(n)])
        along = np.stack([case.hessian(i, hessian_batch) @ s[i] for i in range(n)])
        u = u - a * along if preserving else s - a * along
    return v


def rounds(graph, first=0, change=lambda matrix: matrix):
    step = first
    while True:
        yield change(graph.edges(step).to_matrix(graph.num_nodes))
        step += 1


@pytest.fixture(params=[QuadraticCase, LogisticCase], ids=["quadratic", "logistic"])
def case(request):
    return request.param()


def push(case, graph, **options):
    return push_hypergradient(
        case.problem, network_on(graph), case.params, case.hparams, **{"step_size": case.step_size, **options}
    ).numpy()


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("preserving", [False, True])
@pytest.mark.parametrize("batches", ["full", "joint", "independent"])
def test_push_equals_dense_algebra(case, batches, preserving, reset):
    options = {"depth": 12, "num_pushes": 2}
    graph = directed()
    found = push(
        case,
        graph,
        **options,
        average_preserving=preserving,
        minibatch=batches != "full",
        independent_batches=batches == "independent",
        reset_weights=reset,
        first_batch=3,
        first_round=11,
    )
    forms = {"preserving": preserving, "batches": batches, "reset": reset, "first_batch": 3}
    expected = numpy_push(case, rounds(graph, 11), **options, **forms)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)
    # Each switch that should matter does: the oracle with that switch turned gives something else.
    turned = [{"preserving": not preserving}]
    if not preserving:
        turned.append({"reset": not reset})
    if isinstance(case, LogisticCase):
        turned += [{"batches": other} for other in ("full", "joint", "independent") if other != batches]
    for turn in turned:
        other = numpy_push(case, rounds(graph, 11), **options, **{**forms, **turn})
        assert np.abs(other - expected).max() > 1e-6, turn
    later = numpy_push(case, rounds(graph, 12), **options, **forms)
    assert np.abs(later - expected).max() > 1e-6


class Wrong(Graph):
    """A schedule whose edges run the other way, or whose weights sum to 1 over rows instead of columns."""

    directed, stochasticity, period = True, "column", None

    def __init__(self, graph, change):
        super().__init__(num_nodes=graph.num_nodes)
        self.graph, self.change = graph, change

    def edges(self, step):
        return Edges.from_matrix(self.change(self.graph.edges(step).to_matrix(self.num_nodes)))


@pytest.mark.parametrize(
    "change",
    [lambda W: W.T.copy(), lambda W: (W.T > 0) / (W.T > 0).sum(axis=0), lambda W: (W > 0) / (W > 0).sum(1)[:, None]],
    ids=["transposed", "reversed", "rows"],
)
def test_transposed_edges_and_wrong_normalisation_are_told_apart(case, change):
    options = {"depth": 6, "num_pushes": 2}
    graph = directed()
    right, wrong = push(case, graph, **options), push(case, Wrong(graph, change), **options)
    expected = numpy_push(case, rounds(graph), **options)
    np.testing.assert_allclose(right, expected, rtol=0, atol=1e-10)
    assert np.abs(wrong - expected).max() > 1e-3 * np.abs(expected).max()
    np.testing.assert_allclose(wrong, numpy_push(case, rounds(graph, change=change), **options), rtol=0, atol=1e-10)


def test_without_messages_every_node_has_its_own_truncated_series(case):
    found = push(case, SelfLoop(num_nodes=NUM_NODES), depth=9, num_pushes=3)
    for i in range(NUM_NODES):
        outer_params, outer_hparams = case.outer(i)
        H, B, a = case.hessian(i, None), case.cross(i, None), case.step_size
        series = sum(np.linalg.matrix_power(np.eye(4) - a * H, m) for m in range(9))
        expected = (outer_hparams - a * B @ series @ outer_params) / NUM_NODES
        np.testing.assert_allclose(found[i], expected, rtol=0, atol=1e-12)


def test_one_push_over_the_complete_graph_is_as_good_as_a_hundred(case):
    graph = FullyConnected(num_nodes=NUM_NODES)
    for preserving in (False, True):
        once, often = (push(case, graph, depth=8, num_pushes=s, average_preserving=preserving) for s in (1, 100))
        np.testing.assert_allclose(once, often, rtol=0, atol=1e-12)


def test_two_calls_in_a_row_are_equal(case):
    network = network_on(directed())
    options = {"depth": 5, "num_pushes": 2, "step_size": case.step_size}
    before = case.params.clone(), case.hparams.clone()
    first, second = (push_hypergradient(case.problem, network, case.params, case.hparams, **options) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    torch.testing.assert_close((case.params, case.hparams), before, rtol=0, atol=0)


def test_error_decays_at_the_rate_of_the_smallest_curvature(case):
    """With exact averaging the error after term m is B_i H^{-1} (I - a H)^m u / n, H and u the means over nodes."""
    network = network_on(FullyConnected(num_nodes=NUM_NODES))
    exact = exact_hypergradient(case.problem, network, case.params, case.hparams, method="dense").hypergradient
    hessian = np.mean([case.hessian(i, None) for i in range(NUM_NODES)], axis=0)
    outer = np.mean([case.outer(i)[0] for i in range(NUM_NODES)], axis=0)
    eigenvalues = np.linalg.eigvalsh(hessian)
    # Small enough that all factors are positive and the slowest direction stands out after a while.
    step_size = 0.5 / eigenvalues[-1]
    estimates = []
    options = {"depth": 160, "num_pushes": 1, "step_size": step_size}
    observe = lambda m, v: estimates.append((m, v.numpy().copy()))  # noqa: E731
    push_hypergradient(case.problem, network, case.params, case.hparams, **options, observe=observe)
    assert [m for m, _ in estimates] == list(range(1, 161))
    errors = []
    for m, estimate in estimates:
        rest = np.linalg.solve(hessian, np.linalg.matrix_power(np.eye(4) - step_size * hessian, m) @ outer)
        expected = np.stack([case.cross(i, None) @ rest for i in range(NUM_NODES)]) / NUM_NODES
        np.testing.assert_allclose(estimate - exact.numpy(), expected, rtol=0, atol=1e-12)
        errors.append(np.linalg.norm(estimate - exact.numpy()))
    window = [m for m, error in enumerate(errors) if error > 1e-10 * errors[0]][-20:]
    rate = (errors[window[-1]] / errors[window[0]]) ** (1 / (len(window) - 1))
    assert rate == pytest.approx(1 - step_size * eigenvalues[0], abs=0.015)


@pytest.mark.slow
@pytest.mark.parametrize("preserving", [False, True])
def test_more_pushes_mean_less_error(case, preserving):
    network = network_on(directed())
    exact = exact_hypergradient(case.problem, network, case.params, case.hparams, method="dense").hypergradient.numpy()
    norms = []
    for num_pushes in (1, 5, 30):
        found = push(case, directed(), depth=80, num_pushes=num_pushes, average_preserving=preserving)
        norms.append(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    assert norms[0] > 2 * norms[1]
    assert norms[1] > 1e-6 > norms[2]


def largest_eigenvalue(case):
    return np.linalg.eigvalsh(np.mean([case.hessian(i, None) for i in range(NUM_NODES)], axis=0))[-1]


@pytest.mark.parametrize("preserving", [False, True])
def test_a_series_that_grows_is_an_error_that_names_the_step_size(case, preserving):
    graph, options = FullyConnected(num_nodes=NUM_NODES), {"num_pushes": 1, "average_preserving": preserving}
    bound = 2 / largest_eigenvalue(case)
    for depth in (2, 60):
        push(case, graph, depth=depth, step_size=0.97 * bound, **options)
    finite = r"\(\d\S* times in {} terms; curvature \d\S* along the last one\)"
    infinite = r"\(in {} terms beyond the largest number\)"
    for depth, factor, said in ((60, 1.2, finite), (3, 20, finite), (400, 1000, infinite)):
        expected = f"^algorithm.step_size={factor * bound:g}: the terms .* grow {said.format(depth)}"
        with pytest.raises(ValueError, match=expected):
            push(case, graph, depth=depth, step_size=factor * bound, **options)


class Saddle:
    """Curvature -1/2 along all parameters; the derivative of the gradient by the hyperparameters is 1."""

    def outer_grads(self, params, hparams):
        return torch.ones_like(params), torch.zeros_like(hparams)

    def second_order(self, params, hparams, vector, step):
        return -0.5 * vector, vector


def test_growth_along_negative_curvature_is_an_error_once_it_is_out_of_bounds():
    network, rows = network_on(FullyConnected(num_nodes=NUM_NODES)), random_rows(2)
    options = {"num_pushes": 1, "step_size": 0.1}
    found = push_hypergradient(Saddle(), network, rows, rows, depth=50, **options)
    # 0.1 sum of 1.05^m for m below 50, over the number of nodes.
    np.testing.assert_allclose(found, -2 * (1.05**50 - 1) / NUM_NODES, rtol=1e-10)
    with pytest.raises(ValueError, match=r"algorithm.step_size=0.1: .* fewer terms \(algorithm.depth\)"):
        push_hypergradient(Saddle(), network, rows, rows, depth=400, **options)


class Retrained:
    """Minimises mean_i f_i(x, h) of the logistic case to convergence by Newton's method, in NumPy."""

    def __init__(self, case):
        self.case = case

    def solve(self, hparams):
        x = np.zeros(4)
        for _ in range(30):
            gradient, hessian = np.zeros(4), np.zeros((4, 4))
            for i in range(NUM_NODES):
                X, y = self.case.all_samples(i)
                p = expit(X @ x)
                decay = 0.05 + hparams[i]
                gradient += (X.T @ (p - y) / len(y) + decay * x) / NUM_NODES
                hessian += ((X.T * (p * (1 - p))) @ X / len(y) + decay * np.eye(4)) / NUM_NODES
            x = x - np.linalg.solve(hessian, gradient)
        assert np.linalg.norm(gradient) < 1e-12
        return x

    def outer(self, hparams):
        x, split = self.solve(hparams), self.case.problem.data.valid
        total = 0.0
        for i in range(NUM_NODES):
            rows = slice(int(split.offsets[i]), int(split.offsets[i] + split.sizes[i]))
            X, y = self.case.with_bias(split.inputs[rows]), split.labels[rows].numpy()
            total += np.mean(np.logaddexp(0, X @ x) - y * (X @ x)) / NUM_NODES
        return total


@pytest.mark.slow
def test_hypergradient_is_the_derivative_of_the_retrained_outer_objective():
    """Central differences with 1e-4 are good to about 1e-8."""
    case = LogisticCase()
    retrained = Retrained(case)
    hparams = case.hparams.numpy().ravel()
    optimum = retrained.solve(hparams)
    expected = []
    for i in range(NUM_NODES):
        nudge = 1e-4 * np.eye(NUM_NODES)[i]
        expected.append((retrained.outer(hparams + nudge) - retrained.outer(hparams - nudge)) / 2e-4)
    case.params = torch.from_numpy(np.tile(optimum, (NUM_NODES, 1)))
    network = network_on(directed())
    exact = exact_hypergradient(case.problem, network, case.params, case.hparams, method="dense").hypergradient
    np.testing.assert_allclose(exact.numpy().ravel(), expected, rtol=0, atol=1e-8)
    for preserving in (False, True):
        found = push(case, directed(), depth=150, num_pushes=40, average_preserving=preserving)
        np.testing.assert_allclose(found.ravel(), expected, rtol=0, atol=1e-7)
    assert np.abs(expected).max() > 1e-3
