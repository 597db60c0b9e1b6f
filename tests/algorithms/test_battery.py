"""The battery over every algorithm in conf/algorithm."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from simulator import checkpoint, metrics
from simulator.algorithms.gossip.sgp import SGP
from simulator.algorithms.weights import check_weights
from simulator.network.ledger import Ledger
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import BilevelProblem
from simulator.simulation import Simulation
from tests.algorithms.simulation import (
    ALGORITHMS,
    CONF,
    GRAPHS,
    NUM_NODES,
    TINY_DATA,
    TINY_IMAGES,
    algorithm_class,
    on_data,
    overrides_for,
    solves,
    with_graph,
)
from tests.graphs.loading import build, load

ROOT = Path(__file__).parents[2]
NUM_STEPS = 10
# For 8 nodes; as GRAPHS, with an undirected schedule that mixes as fast as the directed ones.
FAST_GRAPHS = ("random_directed", "one_peer_exponential", "one_peer_hypercube", "ring", "hub", "star")
# How fast compressed messages get somewhere, if at all, is tested with each algorithm that sends them.
NOT_COMPRESSED = {"compressor": "identity", "consensus_lr": 1.0}
# What trains as SGP does and studies the end of it tunes nothing, whatever problem its study needs.
TUNING = [
    name for name in ALGORITHMS if algorithm_class(name).needs_bilevel and not issubclass(algorithm_class(name), SGP)
]
# Those whose nodes agree on the hyperparameters have another stationary point, and tests of their own.
BILEVEL = [name for name in TUNING if not algorithm_class(name).shares_hparams]
SINGLE_LEVEL = [name for name in ALGORITHMS if name not in TUNING and solves(name, "quadratic")]
SHARED_MODEL = [name for name in SINGLE_LEVEL if not algorithm_class(name).personalizes]

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_same_bits(left, right):
    assert left.keys() == right.keys()
    for key in left:
        torch.testing.assert_close(left[key], right[key], rtol=0, atol=0, msg=lambda text, key=key: f"{key}: {text}")


@pytest.fixture(params=ALGORITHMS)
def name(request):
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize("name", SINGLE_LEVEL)
def test_reaches_the_common_minimiser_of_quadratics(name, composed):
    """Curvatures in [1, 4] and lr 0.1: the slowest direction shrinks by 0.9 a step; 1e-10 allows for mixing."""
    overrides = [
        *overrides_for(name, lr=0.1, momentum=0.0, **NOT_COMPRESSED),
        "problem=quadratic",
        "problem.num_hyperparameters=0",
    ]
    overrides += ["problem.heterogeneity=0", "problem.condition=4", "num_nodes=8"]
    simulation = Simulation.build(with_graph(composed, name, overrides, FAST_GRAPHS))
    state = simulation.run(simulation.init(), 0, 400)
    problem = simulation.problem
    optimum = torch.linalg.solve(problem.hessian.mean(dim=0), problem.linear.mean(dim=0))
    assert optimum.norm() > 0.5
    torch.testing.assert_close(simulation.estimate(state), optimum.expand(8, -1), rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED_MODEL)
def test_decaying_rate_reaches_the_minimiser_of_unlike_quadratics(name, composed):
    """The bias of a constant rate is proportional to it and goes when the rate goes."""
    overrides = [
        *overrides_for(name, lr=0.2, momentum=0.0, **NOT_COMPRESSED),
        "problem=quadratic",
        "problem.num_hyperparameters=0",
    ]
    overrides += ["problem.heterogeneity=1", "problem.condition=2", "num_nodes=8"]
    if "lr_schedule" in composed(*overrides)["algorithm"]:
        overrides += ["algorithm.lr_schedule._target_=simulator.schedules.InverseRoot"]
    simulation = Simulation.build(with_graph(composed, name, overrides, FAST_GRAPHS))
    state = simulation.run(simulation.init(), 0, 4000)
    problem = simulation.problem
    optimum = torch.linalg.solve(problem.hessian.mean(dim=0), problem.linear.mean(dim=0))
    errors = (simulation.estimate(state) - optimum).norm(dim=1) / (problem.linear.std(dim=0).norm())
    assert errors.max() < 0.02


def stationary_hparams(problem):
    """Solves outer_regularization h_i + C_i' A^{-1} (x*(h) - t) = 0 for all nodes at once; NumPy, [M, H]."""
    hessian = problem.hessian.numpy().mean(axis=0)
    coupling, target = problem.coupling.numpy(), problem.target.numpy().mean(axis=0)
    num_nodes, _, num_hparams = coupling.shape
    inverse = np.linalg.inv(hessian)
    stacked = np.concatenate(list(coupling), axis=1)
    size = num_nodes * num_hparams
    matrix = problem.outer_regularization * np.eye(size) + stacked.T @ inverse @ inverse @ stacked / num_nodes
    right = stacked.T @ inverse @ (target - inverse @ problem.linear.numpy().mean(axis=0))
    return np.linalg.solve(matrix, right).reshape(num_nodes, num_hparams)


@pytest.mark.slow
@pytest.mark.parametrize("name", BILEVEL)
def test_bilevel_reaches_the_stationary_point(name, composed):
    """Curvatures in [1, 4], steps of 1/4: training and series are exact to 0.75^60 = 3e-8; Adam's end is 1e-3."""
    changes = {"lr": 0.25, "order": "adapt_then_mix", "momentum": 0.0, "inner_steps": 60, "outer_lr": 0.05}
    overrides = overrides_for(name, **changes, depth=60, num_pushes=1, step_size=0.25)
    overrides += ["problem=quadratic", "problem.condition=4", "problem.num_hyperparameters=2"]
    overrides += ["problem.outer_regularization=0.5", "num_nodes=4"]
    simulation = Simulation.build(with_graph(composed, name, overrides, graphs=("fully_connected",)))
    problem = simulation.problem
    state = simulation.run(simulation.init(), 0, 200 * 60)
    found = simulation.algorithm.hparams(state, problem)
    expected = torch.from_numpy(stationary_hparams(problem))
    assert expected.norm() > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_same_bits_whatever_the_global_generators_say(name, composed):
    settings = on_data(composed, name)
    states = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
        simulation = Simulation.build(settings)
        states.append(simulation.run(simulation.init(), 0, NUM_STEPS))
        assert random.getstate() == before[0]
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])
        torch.testing.assert_close(torch.get_rng_state(), before[2], rtol=0, atol=0)
    assert_same_bits(*states)
    other = Simulation.build({**settings, "seed": 1, "graph": {**settings["graph"], "seed": 1}})
    assert not torch.equal(other.estimate(other.run(other.init(), 0, NUM_STEPS)), simulation.estimate(states[0]))


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 4, 5, 8])
def test_resumed_is_uninterrupted(name, stop, composed, tmp_path):
    """Stopped within, at the end of, and right after an outer step of 4 steps."""
    settings = on_data(composed, name)
    whole = Simulation.build(settings)
    expected = whole.run(whole.init(), 0, NUM_STEPS)
    first = Simulation.build(settings)
    state = first.run(first.init(), 0, stop)
    meta = {"ledger": first.network.ledger.state_dict()}
    checkpoint.save(tmp_path, stop, state, meta, first.network)
    second = Simulation.build(settings)
    found = checkpoint.find(tmp_path)
    assert found is not None
    assert found.step == stop
    second.network.ledger.load_state_dict(found.meta["ledger"])
    assert_same_bits(second.run(found.load_rows(second.network.nodes), stop, NUM_STEPS), expected)
    assert totals(second.network.ledger) == totals(whole.network.ledger)


def totals(ledger: Ledger):
    return (
        ledger.bytes,
        ledger.messages,
        ledger.link_time_s,
        ledger.node_sent.tolist(),
        {key: value.tolist() for key, value in ledger.per_edge().items()},
    )


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_keeps_dtype_and_device(name, dtype, composed):
    simulation = Simulation.build({**on_data(composed, name), "dtype": dtype})

    def look(state, _):
        for key, rows in state.items():
            assert rows.dtype == getattr(torch, dtype), key
            assert rows.device.type == "cpu", key
            assert len(rows) == (1 if key.startswith(checkpoint.HUB_PREFIX) else NUM_NODES), key
        assert simulation.estimate(state).dtype == getattr(torch, dtype)

    state = simulation.init()
    look(state, 0)
    simulation.run(state, 0, NUM_STEPS, look)


@pytest.mark.slow
def test_evaluating_changes_nothing(name, composed):
    further = {"reference": "dense"} if "reference" in composed(f"algorithm={name}")["algorithm"] else {}
    settings = on_data(composed, name, **further)
    plain, watched = Simulation.build(settings), Simulation.build(settings)
    expected = plain.run(plain.init(), 0, NUM_STEPS)
    seen = []

    def look(state, done):
        evaluation = metrics.evaluate(watched.algorithm, state, done, watched.problem, watched.network)
        seen.append(evaluation.numbers["train/loss"])

    assert_same_bits(watched.run(watched.init(), 0, NUM_STEPS, look), expected)
    assert len(seen) == NUM_STEPS
    assert np.isfinite(seen).all()
    assert totals(watched.network.ledger) == totals(plain.network.ledger)


class Flat(BilevelProblem):
    """Nothing to learn: all nodes start at one random row and every derivative is 0."""

    uses_data = False
    num_params, num_hparams = 7, 2

    def setup(self, setting):
        pass

    def init_params(self):
        row = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        return row.expand(6, -1).clone()

    def init_hparams(self):
        return torch.full((6, 2), 0.5, dtype=torch.float64)

    def add_grad_(self, out, params, hparams, step, alpha):
        pass

    def inner_grads(self, params, hparams, step):
        return torch.zeros_like(params), torch.zeros_like(hparams)

    def outer_grads(self, params, hparams, step=None):
        return torch.zeros_like(params), torch.zeros_like(hparams)

    def second_order(self, params, hparams, vector, step):
        return vector.clone(), torch.zeros_like(hparams)

    def evaluate(self, params, hparams):
        return {}


def schedules(folder):
    """Every schedule in conf/graph for 6 nodes, plain and under every fault."""
    for file in sorted((CONF / "graph").glob("*.yaml")):
        root = OmegaConf.create({"num_nodes": 6, "seed": 1, "graph": load(file.stem)})
        if file.stem == "file":
            root.graph.path = str(folder / "path.txt")
            (folder / "path.txt").write_text("".join(f"{i} {i + 1}\n" for i in range(5)))
        try:
            plain = build(root.graph)
        except InstantiationException as error:
            if "graph.num_nodes=6: " not in str(error):
                raise
            continue
        yield plain
        for fault in sorted((CONF / "faults").glob("*.yaml")):
            if fault.stem == "none":
                continue
            root.faults = OmegaConf.load(fault)
            root.faults.probability = 0.3
            yield instantiate(root.faults, graph=plain)


@pytest.fixture(scope="module")
def every_schedule(tmp_path_factory):
    return list(schedules(tmp_path_factory.mktemp("graphs")))


@pytest.mark.slow
def test_nothing_changes_when_all_agree_and_nothing_pulls(name, composed, every_schedule):
    if not solves(name, "quadratic"):
        pytest.skip("it needs a problem with data")
    algorithm = Simulation.build(
        with_graph(composed, name, [*overrides_for(name), "problem=quadratic", "num_nodes=4"], GRAPHS)
    ).algorithm
    problem, tried = Flat(), set()
    for graph in every_schedule:
        try:
            check_weights(algorithm, graph)
            algorithm.check_graph(graph)
        except ValueError:
            continue
        tried.add(graph.description)
        network = Network(graph, Placement(6), torch.device("cpu"))
        state = algorithm.init(problem, network)
        for step in range(NUM_STEPS):
            state = algorithm.step(state, step, problem, network)
        if algorithm.keeps_agreement:
            torch.testing.assert_close(algorithm.estimate(state), problem.init_params(), rtol=0, atol=1e-12)
        else:  # its own tests show that estimates come back
            mean = state["params"].mean(dim=0)
            torch.testing.assert_close(mean, problem.init_params()[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(algorithm.hparams(state, problem), problem.init_hparams(), rtol=0, atol=1e-12)
    only_hubs, only_trees = all("Hub" in graph for graph in tried), name == "relay_sum"
    assert len(tried) >= (3 if only_hubs else 6 if only_trees else 10)


# Further cases for several processes: an algorithm, and what it is run with.
VARIANTS = {
    "dsgd_in_cliques": (
        *("dsgd", "graph=d_cliques", "graph.max_clique_size=2", "algorithm.clique_averaging=true"),
        *("algorithm.local_steps=2", "algorithm.momentum=0.5", "algorithm.ema=0.9"),
    ),
    "relay_sum_on_a_tree": ("relay_sum", "graph=binary_tree", "algorithm.normalize=nodes"),
    "pfedhn_gossip_undirected": ("pfedhn_gossip", "algorithm.optimizer=adam", "algorithm.spectral_norm=true"),
    "diging_in_two_messages": ("diging", "algorithm.order=adapt_then_combine", "partition=shared", "dataset=digits"),
    "data_exchange_in_place_and_again": (
        *("data_exchange", "algorithm.mixer=legacy_sweep", "algorithm.exchange_every=3", *TINY_IMAGES),
    ),
    "data_exchange_at_a_server": ("data_exchange", "algorithm.mixer=ps", "algorithm.stale_eval=true", *TINY_IMAGES),
}


def on_variant(composed, name, *further):
    overrides = [*overrides_for(name), "problem.batch_size=8", "model=logistic_regression", "num_nodes=5"]
    data = [] if "dataset=digits" in further else [*TINY_DATA, "partition=as_given"]
    return composed(*overrides, "graph=ring", *data, *further)


@pytest.fixture(scope="session")
def on_processes(composed, tmp_path_factory):
    """All algorithms on 1, 2 and 3 processes, started once."""
    folder = tmp_path_factory.mktemp("processes")
    timing = ("timing=lognormal", "timing.latency_sigma=0.5", "timing.bandwidth_bytes_per_s=1e5")
    cases = {name: on_data(composed, name, "faults=message_loss", *timing) for name in ALGORITHMS}
    cases |= {name: on_variant(composed, *variant) for name, variant in VARIANTS.items()}
    order = {"cases": cases, "num_steps": NUM_STEPS, "world_sizes": [1, 2, 3], "folder": str(folder)}
    (folder / "order.json").write_text(json.dumps(order))
    command = [sys.executable, "-W", "error", "-m", "tests.algorithms.on_processes", str(folder / "order.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ALGORITHMS, *VARIANTS])
def test_any_number_of_processes_gives_the_same(name, on_processes):
    """Up to the rounding of differently ordered sums in float64; counts are equal."""
    reports = {size: json.loads((on_processes / f"{name}_{size}.json").read_text()) for size in (1, 2, 3)}
    states = {size: torch.load(on_processes / f"{name}_{size}.pt", weights_only=True) for size in (1, 2, 3)}
    assert reports[1]["wire_bytes"] == 0
    for size in (2, 3):
        assert reports[size]["wire_bytes"] > 0
        assert reports[size]["counts"] == reports[1]["counts"]
        assert states[size].keys() == states[1].keys()
        for key, rows in states[1].items():
            torch.testing.assert_close(states[size][key], rows, rtol=0, atol=1e-10)
    assert sum(reports[1]["counts"]["sent"]) > 0
    if name in ALGORITHMS:
        assert min(reports[1]["counts"]["clocks"]["now_s"]) > 0
