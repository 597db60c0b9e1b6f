"""The battery over every algorithm in conf/algorithm."""

import json

import numpy as np
import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from simulator.algorithms.gossip.sgp import SGP
from simulator.algorithms.weights import check_weights
from simulator.config.hydra_versions import instantiate
from simulator.simulation import Simulation
from simulator.testing import placements
from simulator.testing.algorithms import (
    ALGORITHM_CHECKS,
    NUM_STEPS,
    check_agreement_on,
    check_evaluation,
    check_minimizer,
)
from simulator.testing.cases import with_settings
from tests.algorithms.simulation import ALGORITHMS, CONF, TINY_DATA, algorithm_class, overrides_for, small, solves
from tests.graphs.loading import build, load

TINY_IMAGES = ("dataset=digits", "partition=digit_shards", "partition.digits_per_node=1", "partition.test_fraction=0.5")
# For 8 nodes; as simulator.testing.cases.GRAPHS, with an undirected schedule that mixes as fast as the directed ones.
FAST_GRAPHS = ("random_directed", "one_peer_exponential", "one_peer_hypercube", "ring", "hub", "star", "teleportation")
# How fast compressed messages get somewhere, if at all, is tested with each algorithm that sends them.
NOT_COMPRESSED = {"compressor": "identity", "consensus_lr": 1.0}
# Steps that are scaled by Adam come to rest only where epsilon is not small, and outer steps take the average as it is;
# gradients of long ago lengthen the way.
PLAIN = {
    "averaging": 0.5,
    "epsilon": 1.0,
    "beta_1": 0.0,
    "inner_optimizer": "sgd",
    "outer_lr": 1.0,
    "outer_momentum": 0.0,
    "consensus_weight": 1.0,
}
# These can compare their hypergradient with an exact solve at every evaluation.
WITH_REFERENCE = [name for name in ALGORITHMS if "reference" in OmegaConf.load(CONF / "algorithm" / f"{name}.yaml")]
# What trains as SGP does and studies the end of it tunes nothing, whatever problem its study needs.
TUNING = [
    name for name in ALGORITHMS if algorithm_class(name).needs_bilevel and not issubclass(algorithm_class(name), SGP)
]
# Those whose nodes agree on the hyperparameters have another stationary point, and tests of their own.
BILEVEL = [name for name in TUNING if not algorithm_class(name).shares_hparams]
SINGLE_LEVEL = [name for name in ALGORITHMS if name not in TUNING and solves(name, "quadratic")]
REFUSES_FAULTS = {"async_fedavg", "stale_gossip", "extra", "exact_diffusion", "nids", "led", "scaffnew"}
HUB_WITHOUT_DATA = {"async_fedavg"}  # node 0 has no part in the objective
OWN_SCALES = {"dadamw"}  # nodes that differ weigh their gradients differently, and end elsewhere
LEAVES_OUT = {"trimmed_mean"}  # the extremes of nodes that differ are left out, and it ends elsewhere
SHARED_MODEL = [
    name for name in SINGLE_LEVEL if not algorithm_class(name).personalizes and name not in OWN_SCALES | LEAVES_OUT
]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=ALGORITHMS)
def name(request):
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize("name", SINGLE_LEVEL)
def test_reaches_the_common_minimiser_of_quadratics(name):
    """Curvatures in [1, 4] and lr 0.1: the slowest direction shrinks by 0.9 a step; 1e-10 allows for mixing."""
    changes = {"lr": 0.1, "momentum": 0.0, **NOT_COMPRESSED, **PLAIN}
    check_minimizer(*overrides_for(name, **changes), "num_nodes=8", graphs=FAST_GRAPHS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED_MODEL)
def test_decaying_rate_reaches_the_minimiser_of_unlike_quadratics(name):
    """The bias of a constant rate is proportional to it and goes when the rate goes: 0.2 / sqrt(1500) leaves 3 %."""
    settings = small(
        *(name, "problem=quadratic", "problem.heterogeneity=1", "problem.condition=2", "num_nodes=8"),
        graphs=FAST_GRAPHS,
        **{"lr": 0.2, "momentum": 0.0, **NOT_COMPRESSED, **PLAIN},
    )
    if "lr_schedule" in settings["algorithm"]:
        settings = with_settings(settings, "algorithm", lr_schedule={"_target_": "simulator.schedules.InverseRoot"})
    simulation = Simulation.build(settings)
    state = simulation.run(simulation.init(), 0, 1500)
    problem = simulation.problem
    own = slice(name in HUB_WITHOUT_DATA, None)
    optimum = torch.linalg.solve(problem.hessian[own].mean(dim=0), problem.linear[own].mean(dim=0))
    errors = (simulation.estimate(state) - optimum).norm(dim=1) / (problem.linear.std(dim=0).norm())
    where = simulation.components.graph.description
    assert errors.max() < 0.03, f"with a rate that decays, {name} does not come to the minimizer on {where}"


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
def test_bilevel_reaches_the_stationary_point(name):
    """Curvatures in [1, 4], steps of 1/4: training and series are exact to 0.75^60 = 3e-8; Adam's end is 1e-3."""
    changes = {"lr": 0.25, "order": "adapt_then_mix", "momentum": 0.0, "inner_steps": 60, "outer_lr": 0.05}
    settings = small(
        *(name, "problem=quadratic", "problem.condition=4", "problem.num_hyperparameters=2"),
        *("problem.outer_regularization=0.5", "num_nodes=4", "graph=fully_connected"),
        **changes,
        depth=60,
        num_pushes=1,
        step_size=0.25,
    )
    simulation = Simulation.build(settings)
    problem = simulation.problem
    state = simulation.run(simulation.init(), 0, 200 * 60)
    found = simulation.algorithm.hparams(state, problem)
    expected = torch.from_numpy(stationary_hparams(problem))
    assert expected.norm() > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("check", ALGORITHM_CHECKS, ids=lambda check: check.__name__)
def test_battery(name, check):
    further = ["algorithm.reference=dense"] if check is check_evaluation and name in WITH_REFERENCE else []
    check(small(name, *further))


# Faults that change which messages of a round arrive, often; those with messages in flight or nodes that are away are
# tested in tests/faults.
FAULTS = {"message_loss": {"probability": 0.3}, "node_outage": {"probability": 0.3}, "burst_loss": {"good_to_bad": 0.3}}
FAULTS_ON = ("random_directed", "ring", "one_peer_exponential", "hub", "star", "binary_tree", "teleportation")


def schedules(folder):
    """Every schedule in conf/graph for 6 nodes, and some of them under every fault."""
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
        for fault, settings in FAULTS.items() if file.stem in FAULTS_ON else ():
            root.faults = OmegaConf.merge(OmegaConf.load(CONF / "faults" / f"{fault}.yaml"), settings)
            yield instantiate(root.faults, graph=plain)


@pytest.fixture(scope="module")
def every_schedule(tmp_path_factory):
    return list(schedules(tmp_path_factory.mktemp("graphs")))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALGORITHMS if solves(name, "quadratic")])
def test_nothing_changes_when_all_agree_and_nothing_pulls(name, every_schedule):
    algorithm, tried = Simulation.build(small(name, "problem=quadratic", "num_nodes=4")).algorithm, set()
    for graph in every_schedule:
        try:
            check_weights(algorithm, graph)
            algorithm.check_graph(graph)
        except ValueError:
            continue
        tried.add(graph.description)
        check_agreement_on(graph, algorithm)
    only_kind = any(all(kind in graph for graph in tried) for kind in ("Hub", "Teleportation"))
    assert len(tried) >= (2 if name == "async_fedavg" else 3 if only_kind else 6 if name == "relay_sum" else 10)


WORLD_SIZES = (1, 3)
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


def on_variant(name, *further):
    words = ["problem=classification", "problem.batch_size=8", "model=logistic_regression"]
    words += [] if "dataset=digits" in further else [*TINY_DATA, "partition=as_given"]
    words += [] if any(word.startswith("graph=") for word in further) else ["graph=ring"]
    return small(name, *words, *further)


@pytest.fixture(scope="session")
def on_processes(tmp_path_factory):
    """All algorithms on 1 and 3 processes, started once."""
    folder = tmp_path_factory.mktemp("processes")
    timing = ("timing=lognormal", "timing.latency_sigma=0.5", "timing.bandwidth_bytes_per_s=1e5")
    faults = {name: "none" if name in REFUSES_FAULTS else "message_loss" for name in ALGORITHMS}
    cases = {name: small(name, f"faults={faults[name]}", *timing) for name in ALGORITHMS}
    cases |= {name: on_variant(*variant) for name, variant in VARIANTS.items()}
    placements.start(cases, folder, num_steps=NUM_STEPS, world_sizes=WORLD_SIZES)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the first of them waits for the start of all algorithms
@pytest.mark.parametrize("name", [*ALGORITHMS, *VARIANTS])
def test_any_number_of_processes_gives_the_same(name, on_processes):
    """Up to the rounding of differently ordered sums in float64; counts are equal."""
    placements.compare(name, on_processes, world_sizes=WORLD_SIZES)
    reports = {size: json.loads((on_processes / f"{name}_{size}.json").read_text()) for size in WORLD_SIZES}
    assert reports[1]["wire_bytes"] == 0
    assert reports[3]["wire_bytes"] > 0
    assert sum(reports[1]["counts"]["sent"]) > 0
    if name in ALGORITHMS:
        counts = reports[1]["counts"]
        assert min((counts["clocks"] or counts["events"])["now_s"][1:]) > 0  # node 0 may be a hub without a clock
