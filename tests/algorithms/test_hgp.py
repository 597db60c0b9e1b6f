"""HGP as a whole against NumPy, its Adam against torch's, and its diagnosis against an error computed by hand."""

import numpy as np
import pytest
import torch

from simulator.algorithms.hypergradient.hgp import HGP
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.random_directed import RandomDirected
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.quadratic import Quadratic
from simulator.schedules import Constant, InverseRoot
from tests.algorithms.shared_quadratic import Instance, farthest, run

NUM_NODES, DIM, NUM_HPARAMS = 4, 3, 2
INNER_STEPS, DEPTH, NUM_PUSHES, STEP_SIZE, LR, OUTER_LR = 6, 5, 2, 0.2, 0.1, 0.03
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


def hgp(**changes):
    settings = {
        "lr": LR,
        "lr_schedule": InverseRoot(),
        "order": "mix_then_adapt",
        "inner_steps": INNER_STEPS,
        "outer_lr": OUTER_LR,
        "depth": DEPTH,
        "num_pushes": NUM_PUSHES,
        "step_size": STEP_SIZE,
        "rule": "debiased",
        "minibatch": False,
        "independent_batches": True,
        "reset_weights": True,
        "reference": "none",
        "reference_tolerance": 1e-10,
        "reference_max_iterations": 200,
        "share_rounds": 0,
    }
    return HGP(**{**settings, **changes})


@pytest.fixture
def problem():
    problem = Quadratic(
        dim=DIM,
        num_hyperparameters=NUM_HPARAMS,
        condition=3.0,
        heterogeneity=1.0,
        noise=0.0,
        outer_regularization=0.2,
    )
    problem.setup(Setting(nodes=range(NUM_NODES), num_nodes=NUM_NODES, seed=1, dtype=torch.float64, device=CPU))
    return problem


def directed():
    return RandomDirected(num_nodes=NUM_NODES, rate_low=0.4, rate_high=0.8, seed=3)


def steps(algorithm, problem, network, num_steps):
    """The state after every step, as copies."""
    state, states = algorithm.init(problem, network), []
    for step in range(num_steps):
        state = algorithm.step(state, step, problem, network)
        states.append({key: value.clone() for key, value in state.items()})
    return states


def numpy_hgp(problem, graph, num_outer_steps):
    """Hyperparameters and hypergradients of every outer step; the graph sequence starts anew each time."""
    A, b, C = problem.hessian.numpy(), problem.linear.numpy(), problem.coupling.numpy()
    target, n = problem.target.numpy(), NUM_NODES
    h = np.zeros((n, NUM_HPARAMS))
    m, s = np.zeros_like(h), np.zeros_like(h)
    records = []
    for outer_step in range(1, num_outer_steps + 1):
        matrices = (graph.edges(t).to_matrix(n) for t in range(INNER_STEPS + DEPTH * NUM_PUSHES))
        x, w = np.zeros((n, DIM)), np.ones(n)
        for t in range(INNER_STEPS):
            P, z = next(matrices), x / w[:, None]
            g = np.stack([A[i] @ z[i] - b[i] - C[i] @ h[i] for i in range(n)])
            x, w = P @ x - LR / (t + 1) ** 0.5 * g, P @ w
        z = x / w[:, None]
        u, v = (z - target) / n, 0.2 * h / n
        for _ in range(DEPTH):
            ones = np.ones(n)
            for _ in range(NUM_PUSHES):
                P = next(matrices)
                u, ones = P @ u, P @ ones
            q = u / ones[:, None]
            v = v + STEP_SIZE * np.stack([C[i].T @ q[i] for i in range(n)])
            u = q - STEP_SIZE * np.stack([A[i] @ q[i] for i in range(n)])
        records.append((z, h.copy(), v))
        m, s = 0.9 * m + 0.1 * v, 0.999 * s + 0.001 * v**2
        h = h - OUTER_LR * (m / (1 - 0.9**outer_step)) / (np.sqrt(s / (1 - 0.999**outer_step)) + 1e-8)
    return records


@pytest.mark.slow
def test_outer_steps_equal_dense_algebra(problem):
    algorithm = hgp()
    states = steps(algorithm, problem, Network(directed(), Placement(NUM_NODES), CPU), 4 * INNER_STEPS)
    for k, (z, h, v) in enumerate(numpy_hgp(problem, directed(), 4)):
        state = states[(k + 1) * INNER_STEPS - 1]
        np.testing.assert_allclose(algorithm.estimate(state).numpy(), z, rtol=0, atol=1e-10)
        np.testing.assert_allclose(state["hparams"].numpy(), h, rtol=0, atol=1e-10)
        np.testing.assert_allclose(state["hypergradient"].numpy(), v, rtol=0, atol=1e-10)
        # What is reported together belongs together: hyperparameters change when the next outer step begins.
        torch.testing.assert_close(
            algorithm.hparams(state, problem), states[k * INNER_STEPS]["hparams"], rtol=0, atol=0
        )


def test_outer_update_is_adam(problem):
    states = steps(hgp(), problem, Network(directed(), Placement(NUM_NODES), CPU), 8 * INNER_STEPS)
    ends = states[INNER_STEPS - 1 :: INNER_STEPS]
    parameter = torch.zeros(NUM_NODES, NUM_HPARAMS, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([parameter], lr=OUTER_LR, betas=(0.9, 0.999), eps=1e-8)
    for end in ends:
        torch.testing.assert_close(end["hparams"], parameter.detach(), rtol=0, atol=1e-13)
        parameter.grad = end["hypergradient"].clone()
        adam.step()
    assert ends[-1]["hparams"].abs().max() > OUTER_LR


@pytest.mark.parametrize("reference", ["dense", "iterative"])
def test_diagnosis_measures_the_error_to_the_exact_hypergradient(problem, reference):
    """The exact one by hand: dF/dh_i = (0.2 h_i + C_i' A^{-1} mean_j (z_j - t_j)) / n."""
    algorithm = hgp(reference=reference)
    network = Network(directed(), Placement(NUM_NODES), CPU)
    state = steps(algorithm, problem, network, 2 * INNER_STEPS)[-1]
    before = {key: value.clone() for key, value in state.items()}
    bytes_before = network.ledger.bytes
    found = algorithm.diagnose(state, 2 * INNER_STEPS - 1, problem, network, is_last=False)
    z, target = algorithm.estimate(state).numpy(), problem.target.numpy()
    w = np.linalg.solve(problem.hessian.numpy().mean(axis=0), (z - target).mean(axis=0))
    exact = (0.2 * state["hparams"].numpy() + np.einsum("ndh,d->nh", problem.coupling.numpy(), w)) / NUM_NODES
    v = state["hypergradient"].numpy()
    assert found["hypergradient/norm"] == pytest.approx(np.linalg.norm(v), rel=1e-12)
    assert found["hypergradient/error"] == pytest.approx(np.linalg.norm(v - exact) / np.linalg.norm(exact), rel=1e-8)
    cosine = (v * exact).sum() / np.linalg.norm(v) / np.linalg.norm(exact)
    assert found["hypergradient/cosine"] == pytest.approx(cosine, rel=1e-8)
    assert found["hypergradient/reference_norm"] == pytest.approx(np.linalg.norm(exact), rel=1e-8)
    assert found["hypergradient/reference_residual"] < 1e-9
    assert found["hypergradient/reference_is_minimum"] == 1.0
    assert found["outer_step"] == 1
    assert 0.01 < found["hypergradient/error"] < 10
    for key, value in before.items():
        torch.testing.assert_close(state[key], value, rtol=0, atol=0)
    assert network.ledger.bytes == bytes_before


@pytest.mark.slow
def test_error_vanishes_with_depth_and_exact_averaging(problem):
    algorithm = hgp(reference="dense", depth=200)
    network = Network(FullyConnected(num_nodes=NUM_NODES), Placement(NUM_NODES), CPU)
    state = steps(algorithm, problem, network, INNER_STEPS)[-1]
    found = algorithm.diagnose(state, INNER_STEPS - 1, problem, network, is_last=False)
    assert found["hypergradient/error"] < 1e-10


def test_a_run_that_ends_within_an_outer_step_reports_where_it_ended(problem):
    algorithm = hgp(reference="dense")
    network = Network(directed(), Placement(NUM_NODES), CPU)
    state = steps(algorithm, problem, network, INNER_STEPS + 2)[-1]
    last = INNER_STEPS + 1
    assert algorithm.diagnose(state, last, problem, network, is_last=False) == {}
    finished = algorithm.finish(state, last, problem, network)
    assert not torch.equal(finished["hypergradient"], state["hypergradient"])
    assert set(algorithm.diagnose(finished, last, problem, network, is_last=True)) >= {"hypergradient/error"}
    complete = steps(algorithm, problem, network, INNER_STEPS)[-1]
    assert algorithm.finish(complete, INNER_STEPS - 1, problem, network) is complete


def test_traffic_is_that_of_the_text(problem):
    """D + 1 numbers per edge and inner step; depth * num_pushes rounds of D + 1 numbers per hypergradient."""
    network = Network(FullyConnected(num_nodes=NUM_NODES), Placement(NUM_NODES), CPU)
    steps(hgp(), problem, network, 2 * INNER_STEPS)
    message, edges = 8 * (DIM + 1), NUM_NODES * (NUM_NODES - 1)
    phases = network.ledger.phases
    assert phases["inner"].bytes == 2 * INNER_STEPS * edges * message
    assert phases["hypergradient"].bytes == 2 * DEPTH * NUM_PUSHES * edges * message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, 0) for key in ("lr", "inner_steps", "outer_lr", "depth", "num_pushes", "step_size")),
        *((key, 0) for key in ("reference_tolerance", "reference_max_iterations")),
        ("order", "mix"),
        ("rule", "paper"),
        ("reference", "exact"),
    ],
)
def test_bad_settings_are_refused(key, value):
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        hgp(**{key: value})


def test_one_line_schedules_restart_with_every_outer_step(problem):
    """With a rate that decays over a run instead, later outer steps would train less: estimates would differ."""
    network = Network(directed(), Placement(NUM_NODES), CPU)
    # So small an outer rate that hyperparameters stay 0 to rounding, and outer steps are repetitions.
    states = steps(hgp(outer_lr=1e-300, lr_schedule=InverseRoot()), problem, network, 2 * INNER_STEPS)
    torch.testing.assert_close(states[-1]["params"], states[INNER_STEPS - 1]["params"], rtol=0, atol=0)
    constant = steps(hgp(outer_lr=1e-300, lr_schedule=Constant()), problem, network, INNER_STEPS)
    assert not torch.equal(constant[-1]["params"], states[-1]["params"])


@pytest.mark.slow
def test_shared_hyperparameters_follow_the_sum_of_all_hypergradients(problem):
    """Push-sum with the dense matrices of the rounds that follow those of the hypergradient; Adam's step in between."""
    graph, rounds = directed(), 12
    first = INNER_STEPS + DEPTH * NUM_PUSHES

    def averaged(rows, start):
        weight = np.ones((NUM_NODES, 1))
        for t in range(start, start + rounds):
            matrix = graph.edges(t).to_matrix(NUM_NODES)
            rows, weight = matrix @ rows, matrix @ weight
        return rows / weight

    own = steps(hgp(), problem, Network(graph, Placement(NUM_NODES), CPU), INNER_STEPS)[-1]
    network = Network(graph, Placement(NUM_NODES), CPU)
    states = steps(hgp(share_rounds=rounds), problem, network, INNER_STEPS + 1)
    end, later = states[INNER_STEPS - 1], states[INNER_STEPS]
    shared = averaged(NUM_NODES * own["hypergradient"].numpy(), first)
    np.testing.assert_allclose(end["hypergradient"].numpy(), shared, rtol=0, atol=1e-12)
    np.testing.assert_allclose(shared, np.tile(own["hypergradient"].numpy().sum(0), (NUM_NODES, 1)), rtol=1e-3)
    moved = -OUTER_LR * shared / (np.abs(shared) + 1e-8)
    np.testing.assert_allclose(later["hparams"].numpy(), averaged(moved, first + rounds), rtol=0, atol=1e-12)
    assert np.abs(own["hypergradient"].numpy()).max() > 1e-2
    links = sum((graph.edges(t).source != graph.edges(t).target).sum() for t in range(first, first + 2 * rounds))
    assert network.ledger.phases["sharing"].bytes == links * 8 * (NUM_HPARAMS + 1)


@pytest.mark.slow
def test_shared_hyperparameters_reach_the_solution_of_the_shared_problem():
    """Adam with a constant rate and rates of training that fall to 1e-3 leave an error of some 1e-2."""
    settings = {"share_rounds": 20, "inner_steps": 100, "outer_lr": 0.05, "depth": 60, "num_pushes": 5}
    settings |= {"step_size": 0.15, "lr": 0.1}
    schedule = ["algorithm.lr_schedule._target_=simulator.schedules.MultiStep", "+algorithm.lr_schedule.decay=0.1"]
    schedule += ["+algorithm.lr_schedule.milestones=[40,70]"]
    state, made = run("hgp", 120 * 100, *schedule, graph="random_directed", **settings)
    assert farthest(state, made, Instance().x_star()) < 0.03


def test_refuses_a_reference_for_shared_hyperparameters():
    with pytest.raises(
        ValueError, match=r"algorithm\.reference=dense: .* with algorithm\.share_rounds=3 there are none"
    ):
        hgp(share_rounds=3, reference="dense")
    with pytest.raises(ValueError, match=r"algorithm\.share_rounds=-1: expected"):
        hgp(share_rounds=-1)


def test_a_step_size_that_makes_the_series_grow_is_an_error(problem):
    network = Network(directed(), Placement(NUM_NODES), CPU)
    algorithm = hgp(step_size=50.0)
    state = algorithm.init(problem, network)
    for step in range(INNER_STEPS - 1):
        state = algorithm.step(state, step, problem, network)
    with pytest.raises(ValueError, match=r"^algorithm.step_size=50: the terms of the hypergradient's series grow"):
        algorithm.step(state, INNER_STEPS - 1, problem, network)
