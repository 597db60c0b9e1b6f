"""Attackers: what they send against dense NumPy, on several processes, in the metrics, and who withstands them."""

import numpy as np
import pytest
import torch

from simulator import config
from simulator.algorithms.gossip.dsgd import DSGD
from simulator.faults.byzantine import ATTACKS, Byzantine
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.ring import Ring
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Setting
from simulator.problems.quadratic import Quadratic
from simulator.randomness import normals
from simulator.schedules import Constant
from simulator.simulation import Simulation
from simulator.testing.placements import compare, start

NUM_NODES, DIM = 10, 4
ATTACKERS = [2, 7]
HONEST = [node for node in range(NUM_NODES) if node not in ATTACKERS]
SMALL = (
    *(f"num_nodes={NUM_NODES}", "dtype=float64", "compute=vmap", "num_threads=1", "figures=false", "device=cpu"),
    *("graph=k_hop_ring", "problem=quadratic", "algorithm.lr=0.05", "faults=byzantine"),
    f"faults.attackers={ATTACKERS}",
)

pytestmark = pytest.mark.usefixtures("one_thread")


def attacked(graph=None, **changes):
    settings = {"attack": "sign_flip", "num_attackers": 1, "attackers": ATTACKERS, "seed": 3, **changes}
    return Byzantine(graph=Ring(num_nodes=NUM_NODES) if graph is None else graph, **settings)


def quadratic(heterogeneity=1.0):
    problem = Quadratic(
        dim=DIM, num_hyperparameters=0, condition=3.0, heterogeneity=heterogeneity, noise=0.0, outer_regularization=0.0
    )
    problem.setup(
        Setting(nodes=range(NUM_NODES), num_nodes=NUM_NODES, seed=2, dtype=torch.float64, device=torch.device("cpu"))
    )
    return problem


def as_sent(rows, attack, s, step, number=0):
    """The rows [M, D] of a round with those of the attackers replaced."""
    sent = rows.copy()
    for node in ATTACKERS:
        if attack == "sign_flip":
            sent[node] = -s * rows[node]
        elif attack == "noise":
            sent[node] = rows[node] + s * normals(3, f"attack/{number}", [node], step, rows.shape[1])[0]
        else:
            sent[node] = rows[HONEST].mean(axis=0) - s * rows[HONEST].std(axis=0, ddof=1)
    return sent


def mixed_with(W, rows, sent):
    """Everybody mixes what others have sent with its own row as it is."""
    return (W - np.diag(np.diag(W))) @ sent + np.diag(W)[:, None] * rows


@pytest.mark.parametrize("attack", ATTACKS)
def test_dsgd_under_attack_is_the_recursion(attack):
    graph, problem = attacked(attack=attack, strength=1.5), quadratic()
    network = Network(graph, Placement(NUM_NODES), torch.device("cpu"))
    algorithm = DSGD(lr=0.05, lr_schedule=Constant(), momentum=0.0, order="adapt_then_combine")
    state = algorithm.init(problem, network)
    hessian, linear, x = problem.hessian.numpy(), problem.linear.numpy(), np.zeros((NUM_NODES, DIM))
    W = graph.edges(0).to_matrix(NUM_NODES)
    for step in range(30):
        state = algorithm.step(state, step, problem, network)
        u = x - 0.05 * (np.einsum("nij,nj->ni", hessian, x) - linear)
        x = mixed_with(W, u, as_sent(u, attack, 1.5, step))
        np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-11)
    assert network.ledger.messages == 30 * 2 * NUM_NODES


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_way_to_send_rows_is_attacked(attack):
    graph, rng = attacked(attack=attack, strength=1.5), np.random.default_rng(0)
    network = Network(graph, Placement(NUM_NODES), torch.device("cpu"))
    rows, numbers = rng.standard_normal((NUM_NODES, DIM)), rng.standard_normal((NUM_NODES, 1))
    given = [torch.from_numpy(rows), torch.from_numpy(numbers[:, 0])]
    before = [x.clone() for x in given]
    expected = [as_sent(rows, attack, graph.strength, 4), as_sent(numbers, attack, graph.strength, 4, 1)]
    W = graph.edges(4).to_matrix(NUM_NODES)
    mixed = network.mix(given, 4)
    inbox = network.exchange(given, 4)
    for number, (own, sent) in enumerate(zip((rows, numbers), expected, strict=True)):
        found = mixed[number].numpy().reshape(NUM_NODES, -1)
        np.testing.assert_allclose(found, mixed_with(W, own, sent), rtol=0, atol=1e-13)
        heard = inbox.rows[number].numpy().reshape(len(inbox.rows[number]), -1)[inbox.row]
        loops = (inbox.source == inbox.target)[:, None]
        np.testing.assert_allclose(heard, np.where(loops, own[inbox.source], sent[inbox.source]), rtol=0, atol=1e-13)
        assert torch.equal(given[number], before[number])


def error_of(attack, *words):
    """The largest distance of an honest model to the minimiser of the honest nodes' mean, over its length."""
    further = (f"faults.attack={attack}", "faults.strength=4", "graph=fully_connected", "problem.heterogeneity=0.1")
    simulation = Simulation.build(config.compose([*SMALL, *further, *words]))
    problem = simulation.problem
    found = simulation.estimate(simulation.run(simulation.init(), 0, 200))[HONEST]
    optimum = torch.linalg.solve(problem.hessian[HONEST].mean(dim=0), problem.linear[HONEST].mean(dim=0))
    return float((found - optimum).norm(dim=1).max() / optimum.norm())


@pytest.mark.parametrize("attack", ["sign_flip", "noise"])
def test_who_withstands(attack):
    """Two of ten nodes lie: D-SGD ends far from the optimum of the honest nodes, the others near it."""
    broken = error_of(attack, "algorithm=dsgd")
    assert broken > 0.3
    for words in (
        ("algorithm=clipped_gossip", "algorithm.radius=0.05"),
        ("algorithm=clipped_gossip", "algorithm.num_attackers=2"),
        ("algorithm=trimmed_mean", "algorithm.trim=2"),
        ("algorithm=trimmed_mean", "algorithm.rule=median"),
    ):
        assert error_of(attack, *words) < 0.2 * broken, words


def test_a_little_is_enough_hides_among_the_honest():
    """Its strength comes from the numbers of nodes: 50 nodes, 12 attackers, as in the paper."""
    graph = Byzantine(graph=FullyConnected(num_nodes=50), attack="alie", num_attackers=12)
    assert graph.strength == pytest.approx(0.3360, abs=1e-4)  # Phi(0.336) = 24 / 38
    assert attacked(attack="noise").strength == 1.0


def test_who_attacks_depends_on_the_seed_alone():
    drawn = [attacked(attackers=None, num_attackers=3, seed=seed).attackers.tolist() for seed in range(20)]
    assert all(nodes == sorted(set(nodes)) and len(nodes) == 3 for nodes in drawn)
    assert len({tuple(nodes) for nodes in drawn}) > 10
    assert attacked(attackers=None, num_attackers=3, seed=4).attackers.tolist() == drawn[4]
    assert attacked(attackers=[7, 2]).attackers.tolist() == ATTACKERS
    assert attacked().honest.tolist() == HONEST
    assert attacked().period == 1


def test_without_attackers_nothing_changes():
    plain = [word for word in SMALL if "faults" not in word]
    states = []
    for words in (plain, [*plain, "faults=byzantine", "faults.num_attackers=0"]):
        simulation = Simulation.build(config.compose([*words, "algorithm=dsgd"]))
        states.append(simulation.run(simulation.init(), 0, 10)["params"])
    assert torch.equal(*states)


def test_metrics_are_of_honest_nodes():
    simulation = Simulation.build(config.compose([*SMALL, "algorithm=dsgd", "faults.strength=5"]))
    state = simulation.run(simulation.init(), 0, 20)
    evaluation = simulation.evaluate(state, 20)
    losses = simulation.problem.evaluate(state["params"], simulation.problem.init_hparams())["train/loss"]
    assert evaluation.numbers["train/loss"] == pytest.approx(float(losses[HONEST].mean()), rel=1e-12)
    assert evaluation.numbers["train/loss"] != pytest.approx(float(losses.mean()), rel=1e-3)
    assert torch.isnan(evaluation.per_node["train/loss"][ATTACKERS]).all()
    honest = state["params"][HONEST]
    spread = (honest - honest.mean(dim=0)).square().sum(dim=1).mean().sqrt()
    assert evaluation.numbers["consensus_distance"] == pytest.approx(float(spread), rel=1e-12)


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same(tmp_path):
    cases = {
        f"{name}_{attack}": config.compose(
            [*SMALL, f"algorithm={name}", f"faults.attack={attack}", "faults.strength=1.5"]
        )
        for name in ("dsgd", "clipped_gossip", "trimmed_mean")
        for attack in ATTACKS
    }
    start(cases, tmp_path, num_steps=6, world_sizes=(1, 3))
    for case in cases:
        compare(case, tmp_path, world_sizes=(1, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack": "lie"}, r"faults\.attack='lie': expected sign_flip, noise or alie"),
        ({"num_attackers": NUM_NODES}, r"faults\.num_attackers=10: expected at least 0 and fewer than num_nodes=10"),
        ({"attackers": [1, 1]}, r"faults\.attackers=\[1, 1\]: expected some, but not all, of the nodes 0 to 9"),
        ({"attackers": [10]}, r"faults\.attackers=\[10\]: expected some"),
        ({"strength": 0.0}, r"faults\.strength=0\.0: expected a positive number"),
        (
            {"attack": "alie", "attackers": [0, 1, 2, 3, 4, 5]},
            r"faults\.strength=null: with 6 attackers among 10 nodes",
        ),
        ({"attack": "alie"}, r"faults\.strength=null: with 2 attackers among 10 nodes .* no positive number; give one"),
    ],
)
def test_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        attacked(**changes)


@pytest.mark.parametrize("algorithm", ["sgp", "diging", "choco", "adpsgd"])
def test_algorithms_that_send_something_else_are_refused(algorithm):
    words = [f"algorithm={algorithm}", "timing=constant" if algorithm == "adpsgd" else "timing=none"]
    with pytest.raises(
        ValueError, match=rf"faults: what algorithm={algorithm} sends is not defined for attackers; use"
    ):
        Simulation.build(config.compose([*SMALL, *words]))
