"""EXTRA, exact diffusion, NIDS, LED, Scaffnew and K-GT against dense float64 NumPy in the forms of the papers.

Symbols as in simulator/algorithms/primal_dual.
"""

import numpy as np
import pytest
import torch

from simulator.algorithms.corrections import GradientTracking, Moving
from simulator.algorithms.gossip.dsgd import DSGD
from simulator.algorithms.primal_dual.base import smallest_eigenvalue
from simulator.algorithms.primal_dual.exact_diffusion import ExactDiffusion
from simulator.algorithms.primal_dual.extra import EXTRA
from simulator.algorithms.primal_dual.k_gt import KGT
from simulator.algorithms.primal_dual.led import LED
from simulator.algorithms.primal_dual.nids import NIDS
from simulator.algorithms.primal_dual.scaffnew import Scaffnew
from simulator.algorithms.weights import check_weights
from simulator.graphs.chain import Chain
from simulator.graphs.exponential import Exponential
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.one_peer_hypercube import OnePeerHypercube
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.graphs.star import Star
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.randomness import generator
from simulator.schedules import Constant
from tests.algorithms.node_data import NUM_NODES as NUM_DATA_NODES
from tests.algorithms.node_data import make_problem
from tests.algorithms.unlike_quadratics import (
    CPU,
    DIM,
    MILESTONES,
    NUM_NODES,
    NUM_STEPS,
    RATES,
    gradient_of,
    matrices,
    minimiser_of,
    quadratic,
    run,
    run_on,
)

LR, K, P, SEED = 0.05, 3, 0.4, 5
FACTORS = [1.0, 0.5, 0.8, 0.3, 1.0, 0.6, 0.9]
EYE = np.eye(NUM_NODES)
RING, PEERS = Ring(num_nodes=NUM_NODES), OnePeerExponential(num_nodes=NUM_NODES)

pytestmark = pytest.mark.usefixtures("one_thread")


def make(kind, lr=LR, lr_schedule=None, **changes):
    settings = {
        EXTRA: {},
        ExactDiffusion: {"relaxation": 0.5},
        NIDS: {"relaxation": 0.5, "lr_factors": None},
        LED: {"relaxation": 0.5, "local_steps": K},
        Scaffnew: {"relaxation": 0.5, "probability": P, "seed": SEED},
        KGT: {"local_steps": K, "communication_lr": 1.0},
    }[kind]
    return kind(lr=lr, lr_schedule=lr_schedule or Constant(), **{**settings, **changes})


def coin(t):
    return generator(SEED, "scaffnew", step=t).random() < P


# ----- the iterates


def extra(W, gradient, rates):
    a, x_before = rates[0], np.zeros((NUM_NODES, DIM))
    x = W[0] @ x_before - a * gradient(x_before)
    for Wt in W[1:]:
        both, difference = EYE + Wt, gradient(x) - gradient(x_before)
        x, x_before = both @ x - both / 2 @ x_before - a * difference, x
    return x


def exact_diffusion(relaxation):
    def iterate(W, gradient, rates):
        x = psi = np.zeros((NUM_NODES, DIM))
        for Wt in W:
            psi_new = x - rates[0] * gradient(x)
            x, psi = ((1 - relaxation) * EYE + relaxation * Wt) @ (psi_new + x - psi), psi_new
        return x

    return iterate


def nids(factors, relaxation):
    def iterate(W, gradient, rates):
        A = rates[0] * np.diag(factors)
        c = relaxation / rates[0]
        x_before = np.zeros((NUM_NODES, DIM))
        x = x_before - A @ gradient(x_before)
        for Wt in W[1:]:
            corrected = 2 * x - x_before - A @ gradient(x) + A @ gradient(x_before)
            x, x_before = (EYE - c * A @ (EYE - Wt)) @ corrected, x
        return x

    return iterate


def led(W, gradient, rates):
    """With the dual variable y of the paper, which goes with beta = 1 / K."""
    x = y = np.zeros((NUM_NODES, DIM))
    for Wt in W:
        phi = x
        for _ in range(K):
            phi = phi - rates[0] * gradient(phi) - y / K
        x = (EYE + Wt) / 2 @ phi
        y = y + phi - x
    return x


def scaffnew(W, gradient, rates):
    """With h of the paper: h = -c."""
    a = rates[0]
    x = h = np.zeros((NUM_NODES, DIM))
    for t, Wt in enumerate(W):
        ahead = x - a * (gradient(x) - h)
        x = (EYE + Wt) / 2 @ ahead if coin(t) else ahead
        h = h + P / a * (x - ahead)
    return x


def k_gt(communication_lr):
    def iterate(W, gradient, rates):
        a = rates[0]
        x = c = np.zeros((NUM_NODES, DIM))
        for Wt in W:
            u = x
            for _ in range(K):
                u = u - a * (gradient(u) + c)
            z = (x - u) / (K * a)
            x, c = Wt @ (x - K * a * communication_lr * z), c - z + Wt @ z
        return x

    return iterate


CASES = {
    "extra": (make(EXTRA), RING, extra),
    "exact_diffusion": (make(ExactDiffusion), RING, exact_diffusion(0.5)),
    "d2": (make(ExactDiffusion, relaxation=1.0), RING, exact_diffusion(1.0)),
    "nids": (make(NIDS), RING, nids([1.0] * NUM_NODES, 0.5)),
    "nids_uncoordinated": (make(NIDS, lr_factors=FACTORS, relaxation=0.6), RING, nids(FACTORS, 0.6)),
    "led": (make(LED), RING, led),
    "scaffnew": (make(Scaffnew), RING, scaffnew),
    "k_gt": (make(KGT), RING, k_gt(1.0)),
    "k_gt_on_peers": (make(KGT, communication_lr=0.7), PEERS, k_gt(0.7)),
}
each = pytest.mark.parametrize(("algorithm", "graph", "oracle"), CASES.values(), ids=list(CASES))


@each
def test_iterates(algorithm, graph, oracle):
    problem = quadratic()
    state = run(algorithm, problem, graph, NUM_STEPS)
    expected = oracle(matrices(graph), gradient_of(problem), [LR] * NUM_STEPS)
    np.testing.assert_allclose(state["params"].numpy(), expected, rtol=0, atol=1e-10)
    assert expected.std(axis=0).max() > 1e-7
    assert np.abs(expected).max() > 0.1


def with_corrections(kind, W, gradient):
    """All of them in terms of c, at rates that change."""
    x = c = np.zeros((NUM_NODES, DIM))
    for t, (Wt, a) in enumerate(zip(W, RATES, strict=True)):
        apart = (EYE - Wt) / 2
        if kind is EXTRA:
            x, c = Wt @ x - a * (gradient(x) + c), c + apart @ x / a
            continue
        u = x
        for _ in range(K if kind in (LED, KGT) else 1):
            u = u - a * (gradient(u) + c)
        if kind is KGT:
            z = (x - u) / (K * a)
            x, c = Wt @ u, c - (EYE - Wt) @ z
            continue
        meets = {NIDS: t > 0, Scaffnew: coin(t)}.get(kind, True)
        scale = {LED: 1 / K, Scaffnew: P}.get(kind, 1.0)
        x, c = (u - apart @ u, c + scale / a * apart @ u) if meets else (u, c)
    return x, c


@pytest.mark.parametrize("kind", [EXTRA, ExactDiffusion, NIDS, LED, Scaffnew, KGT])
def test_corrections_stay_when_the_rate_changes(kind):
    problem = quadratic()
    state = run(make(kind, lr_schedule=MILESTONES), problem, RING, NUM_STEPS)
    x, c = with_corrections(kind, matrices(RING), gradient_of(problem))
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
    found = state["correction"] if "correction" in state else (state["memory"] - state["params"]) / RATES[-1]
    np.testing.assert_allclose(found.numpy(), c, rtol=0, atol=1e-9)


# ----- what is conserved, and where it ends


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("kind", ["noise", "minibatches"])
def test_corrections_sum_to_zero_whatever_the_noise(name, kind):
    algorithm, graph, _ = CASES[name]
    problem = quadratic(noise=0.5) if kind == "noise" else make_problem()
    size = NUM_NODES if kind == "noise" else NUM_DATA_NODES
    factors = getattr(algorithm, "lr_factors", None)
    if factors is not None:
        algorithm = make(NIDS, lr_factors=factors[:size], relaxation=0.6)
    scale = LR * torch.tensor(factors[:size] if factors else [1.0] * size, dtype=torch.float64)[:, None]
    spread = []

    def look(state, done):
        c = state["correction"] if "correction" in state else (state["memory"] - state["params"]) / scale
        torch.testing.assert_close(c.sum(dim=0), torch.zeros_like(c[0]), rtol=0, atol=1e-10)
        spread.append(float(c.abs().max()))

    run(algorithm, problem, type(graph)(num_nodes=size), 30, look)
    assert spread[0] == 0
    assert spread[-1] > 1e-2


@each
def test_a_constant_rate_reaches_the_minimiser_of_unlike_quadratics(algorithm, graph, oracle):
    problem = quadratic()
    optimum = minimiser_of(problem)
    state = run(algorithm, problem, graph, 1200)
    torch.testing.assert_close(state["params"], optimum.expand(NUM_NODES, -1), rtol=0, atol=1e-9)
    gradients = gradient_of(problem)(state["params"].numpy())
    assert np.abs(gradients).max() > 0.1
    if "correction" in state:
        np.testing.assert_allclose(state["correction"].numpy(), -gradients, rtol=0, atol=1e-8)


def test_dsgd_at_this_rate_stays_away_from_the_minimiser():
    problem = quadratic()
    dsgd = DSGD(lr=LR, lr_schedule=Constant(), momentum=0.0, order="adapt_then_combine")
    assert (run(dsgd, problem, RING, 600)["params"] - minimiser_of(problem)).norm(dim=1).max() > 1e-2


# ----- one local step, or a meeting after every one


@pytest.mark.parametrize("changed", [make(LED, local_steps=1), make(Scaffnew, probability=1.0)])
@pytest.mark.parametrize("kind", ["noise", "minibatches"])
def test_without_local_steps_it_is_exact_diffusion(changed, kind):
    problem = quadratic(noise=0.5) if kind == "noise" else make_problem()
    graph = Ring(num_nodes=NUM_NODES if kind == "noise" else NUM_DATA_NODES)
    found, expected = (run(each, problem, graph, 30) for each in (changed, make(ExactDiffusion)))
    torch.testing.assert_close(found["params"], expected["params"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("graph", [RING, PEERS], ids=lambda graph: graph.description)
def test_k_gt_with_one_local_step_is_the_gradient_tracking_of_sparkle(graph):
    problem = quadratic(noise=0.5)
    found = run(make(KGT, local_steps=1), problem, graph, 30)
    network, tracking = Network(graph, Placement(NUM_NODES), CPU), GradientTracking()
    x = problem.init_params()
    direction = problem.grad(x, problem.init_hparams(), 0)
    memory = tracking.init(x, direction)
    for step in range(30):
        variable = Moving(x, direction, memory)
        sent = tracking.send(variable, LR)
        x, memory = tracking.move(variable, LR, sent, network.mix(sent, step))
        new = problem.grad(x, problem.init_hparams(), step + 1)
        memory, direction = tracking.update_memory(memory, direction, new), new
    torch.testing.assert_close(found["params"], x, rtol=0, atol=1e-12)


def test_nids_is_exact_diffusion_after_its_first_step():
    problem = quadratic(noise=0.5)
    network = Network(RING, Placement(NUM_NODES), CPU)
    nids, diffusion = make(NIDS), make(ExactDiffusion)
    state = nids.step(nids.init(problem, network), 0, problem, network)
    other = {key: rows.clone() for key, rows in state.items()}
    assert state["params"].std(dim=0).min() > 1e-3
    for step in range(1, 20):
        state = nids.step(state, step, problem, network)
        other = diffusion.step(other, step, problem, network)
    assert torch.equal(state["params"], other["params"])


# ----- messages


def traffic(algorithm, graph=RING, num_steps=20):
    network = Network(graph, Placement(NUM_NODES), CPU)
    run_on(network, algorithm, quadratic(), num_steps)
    return network.ledger.messages, network.ledger.bytes


@pytest.mark.parametrize(
    ("kind", "rounds", "rows"),
    [(EXTRA, 20, 1), (ExactDiffusion, 20, 1), (NIDS, 19, 1), (LED, 20, 1), (KGT, 20, 2)],
)
def test_bytes(kind, rounds, rows):
    links = 2 * NUM_NODES
    assert traffic(make(kind)) == (links * rounds, links * rounds * rows * DIM * 8)


def test_scaffnew_sends_after_the_steps_of_the_coin_only():
    meetings = sum(coin(t) for t in range(20))
    assert 0 < meetings < 20
    assert traffic(make(Scaffnew)) == (2 * NUM_NODES * meetings, 2 * NUM_NODES * meetings * DIM * 8)
    algorithm = make(Scaffnew, probability=0.25)
    assert abs(np.mean([algorithm.meets(t) for t in range(2000)]) - 0.25) < 0.03


# ----- what is refused


@pytest.mark.parametrize("kind", [EXTRA, ExactDiffusion, NIDS, LED, Scaffnew])
def test_they_need_a_static_symmetric_graph(kind):
    algorithm = make(kind)
    with pytest.raises(ValueError, match=rf"algorithm={algorithm.name} needs a static graph, and .*use algorithm=k_gt"):
        algorithm.check_graph(OnePeerHypercube(num_nodes=8))
    with pytest.raises(ValueError, match=rf"algorithm={algorithm.name} needs symmetric weights"):
        check_weights(algorithm, Exponential(num_nodes=8))
    with pytest.raises(ValueError, match="use algorithm=push_diging there"):
        check_weights(algorithm, RandomDirected(num_nodes=8, rate_low=0.3, rate_high=0.6))
    algorithm.check_graph(RING)


def test_k_gt_needs_doubly_stochastic_weights():
    algorithm = make(KGT)
    for graph in (OnePeerHypercube(num_nodes=8), Exponential(num_nodes=8), RING):
        check_weights(algorithm, graph)
        algorithm.check_graph(graph)
    with pytest.raises(ValueError, match="algorithm=k_gt needs doubly stochastic weights"):
        check_weights(algorithm, RandomDirected(num_nodes=8, rate_low=0.3, rate_high=0.6))


@pytest.mark.parametrize(
    "graph",
    [Ring(num_nodes=8), Ring(num_nodes=7), Star(num_nodes=6), Chain(num_nodes=90), SelfLoop(num_nodes=3)],
    ids=lambda graph: graph.description,
)
def test_smallest_eigenvalue(graph):
    expected = np.linalg.eigvalsh(graph.edges(0).to_matrix(graph.num_nodes))[0]
    assert smallest_eigenvalue(graph) == pytest.approx(expected, abs=1e-7)


def test_a_relaxation_that_lets_disagreement_grow_is_refused():
    """On an even ring W has the eigenvalue -1/3 itself; on an odd one of 7 it is -0.27."""
    even = Ring(num_nodes=8)
    with pytest.raises(ValueError, match=r"algorithm\.relaxation=1\.0: graph Ring.* -0\.333; expected less than 1$"):
        make(ExactDiffusion, relaxation=1.0).check_graph(even)
    for kind in (ExactDiffusion, NIDS, LED, Scaffnew):
        make(kind, relaxation=0.99).check_graph(even)
        make(kind, relaxation=1.0).check_graph(RING)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (EXTRA, {"lr": 0.0}),
        (ExactDiffusion, {"relaxation": 0.0}),
        (LED, {"relaxation": 1.1}),
        (LED, {"local_steps": 0}),
        (KGT, {"local_steps": 0}),
        (KGT, {"communication_lr": 0.0}),
        (Scaffnew, {"probability": 0.0}),
        (Scaffnew, {"probability": 1.5}),
        (NIDS, {"lr_factors": [1.0, 0.0]}),
    ],
)
def test_refuses(kind, changes):
    (key,) = changes
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        make(kind, **changes)


def test_nids_needs_a_factor_for_every_node():
    with pytest.raises(ValueError, match=r"algorithm\.lr_factors has 2 numbers: expected one for each of 7 nodes"):
        make(NIDS, lr_factors=[1.0, 0.5]).check_graph(RING)
