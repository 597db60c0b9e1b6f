"""The battery over every fault that takes edges away on every schedule in conf/graph, and what single faults promise.

Late messages are in test_delays.py, nodes that leave in test_churn.py, attackers in test_byzantine.py.
"""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from simulator.algorithms.gossip.dsgd import DSGD
from simulator.algorithms.weights import check_weights
from simulator.config import build, check
from simulator.config.hydra_versions import instantiate
from simulator.faults.base import FaultyGraph
from simulator.faults.burst_loss import BurstLoss
from simulator.faults.message_loss import MessageLoss
from simulator.faults.node_outage import NodeOutage
from simulator.faults.two_state import is_in_state_1
from simulator.graphs.base import Edges, PeriodicGraph
from simulator.graphs.connectivity import check_mixes, check_stochastic
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.randomness import uniforms
from simulator.schedules import Constant
from tests.graphs.loading import build as build_graph
from tests.graphs.loading import load

CONF = Path(__file__).parents[2] / "conf"
OTHERS = {"none", "message_delay", "churn", "byzantine"}
FAULTS = sorted({path.stem for path in (CONF / "faults").glob("*.yaml")} - OTHERS)
# Settings that make a fault frequent, and those without any.
OFTEN = {"burst_loss": {"good_to_bad": 0.3, "bad_to_good": 0.45}}
NEVER = {"burst_loss": {"good_to_bad": 0.0}}
GRAPHS = sorted(path.stem for path in (CONF / "graph").glob("*.yaml"))
NUM_NODES = 6
# Schedules that there are not of 6 nodes.
SIZES = {"exchange_tree": 5, "hypercube": 8, "one_peer_hypercube": 8, "social_network": 32, "social_network_tree": 32}
ROUNDS = range(30)


class Matrix(PeriodicGraph):
    """A static schedule given by its matrix."""

    def __init__(self, matrix, stochasticity):
        self.matrix = np.asarray(matrix, dtype=float)
        super().__init__(num_nodes=len(self.matrix))
        self._stochasticity = stochasticity

    @property
    def stochasticity(self):
        return self._stochasticity

    @property
    def directed(self):
        return bool(((self.matrix != 0) != (self.matrix != 0).T).any())

    def build(self, phase):
        return Edges.from_matrix(self.matrix)


def make(graph: str, folder: Path, fault: str | None = None, num_nodes: int = NUM_NODES, **changes):
    """A schedule from conf/graph with a fault from conf/faults."""
    root = {"num_nodes": num_nodes, "seed": 3, "graph": load(graph).copy()}
    if graph == "file":
        path = folder / "path.txt"
        path.write_text("".join(f"{i} {i + 1}\n" for i in range(num_nodes - 1)))
        root["graph"].path = str(path)
    config = OmegaConf.create(root)
    built = build_graph(config.graph)
    if fault is None:
        return built
    config.faults = OmegaConf.load(CONF / "faults" / f"{fault}.yaml")
    config.faults.update(OFTEN.get(fault, {"probability": 0.4}) | changes)
    return instantiate(config.faults, graph=built)


@pytest.fixture(params=FAULTS)
def fault(request):
    return request.param


@pytest.fixture(params=GRAPHS)
def pair(request, fault, tmp_path):
    """A schedule and the same one with a fault."""
    num_nodes = SIZES.get(request.param, NUM_NODES)
    return make(request.param, tmp_path, None, num_nodes), make(request.param, tmp_path, fault, num_nodes)


def test_sums_are_as_declared_and_shares_return_to_self_loops(pair):
    plain, faulty = pair
    num_nodes = plain.num_nodes
    asymmetric = False
    fewer = 0
    for step in ROUNDS:
        before, after = (graph.edges(step).to_matrix(num_nodes) for graph in pair)
        off = ~np.eye(num_nodes, dtype=bool)
        # What is up keeps its weight; nothing appears that was not there.
        np.testing.assert_array_equal(after[off & (after != 0)], before[off & (after != 0)])
        if (before >= 0).all():
            assert (np.diag(after) >= np.diag(before)).all()
        fewer += np.count_nonzero(before) - np.count_nonzero(after)
        if faulty.stochasticity in ("double", "row"):
            np.testing.assert_allclose(after.sum(axis=1), 1, rtol=0, atol=1e-12)
        if faulty.stochasticity in ("double", "column"):
            np.testing.assert_allclose(after.sum(axis=0), 1, rtol=0, atol=1e-12)
        asymmetric |= bool(((after != 0) != (after != 0).T).any())
    assert faulty.directed == asymmetric
    assert (fewer > 0) == plain.mixes
    assert faulty.mixes == plain.mixes
    check_stochastic(faulty)
    check_mixes(faulty)


def test_edges_are_sorted_read_only_and_pure_in_the_step(pair, fault, tmp_path):
    _, faulty = pair
    steps = [0, 1, 5, 1000]
    first = {step: faulty.edges(step) for step in steps}
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    for step in reversed(steps):
        edges = faulty.edges(step)
        for field in ("source", "target", "weight"):
            np.testing.assert_array_equal(getattr(edges, field), getattr(first[step], field))
            assert not getattr(edges, field).flags.writeable
        assert (np.diff(edges.target * faulty.num_nodes + edges.source) > 0).all()
        assert edges.source.dtype == edges.target.dtype == np.int64
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    torch.testing.assert_close(torch.get_rng_state(), before[1], rtol=0, atol=0)
    assert faulty.period is None


def test_probability_0_changes_nothing_and_one_node_has_nothing_to_lose(fault, tmp_path):
    never = NEVER.get(fault, {"probability": 0.0})
    plain, faulty = make("random_directed", tmp_path), make("random_directed", tmp_path, fault, **never)
    for step in ROUNDS:
        np.testing.assert_array_equal(faulty.edges(step).to_matrix(NUM_NODES), plain.edges(step).to_matrix(NUM_NODES))
    alone = make("random_directed", tmp_path, fault, num_nodes=1)
    assert alone.edges(0).to_matrix(1).tolist() == [[1.0]]
    assert not alone.directed


def test_seed_and_step_change_the_faults(fault, tmp_path):
    codes = {
        edges.weight.tobytes() + edges.source.tobytes()
        for seed in range(5)
        for step in range(5)
        for edges in [make("fully_connected", tmp_path, fault, num_nodes=20, seed=seed).edges(step)]
    }
    assert len(codes) == 25


@pytest.mark.parametrize("probability", [-0.1, 1.0, float("nan")])
def test_bad_probability_is_refused(fault, probability):
    settings = dict(OmegaConf.to_container(OmegaConf.load(CONF / "faults" / f"{fault}.yaml")))
    key = "good_to_bad" if fault == "burst_loss" else "probability"
    with pytest.raises(ValueError, match=rf"faults\.{key}=.*expected a number in \[0, 1\)"):
        get_class(settings.pop("_target_"))(graph=Ring(num_nodes=3), **{**settings, key: probability, "seed": 0})


def test_yaml_lists_every_constructor_argument_with_a_comment(fault):
    file = CONF / "faults" / f"{fault}.yaml"
    config = OmegaConf.load(file)
    target = get_class(config["_target_"])
    assert issubclass(target, FaultyGraph)
    assert set(config) - {"_target_"} == set(inspect.signature(target).parameters) - {"graph"}
    assert all("  # " in line for line in file.read_text().splitlines())
    assert config["_target_"].split(".")[-2] == fault


def test_rates_of_loss_are_the_probability():
    """40 rounds of 20 * 19 edges: the rate is within 4 standard deviations."""
    num_nodes, probability = 20, 0.3
    rounds = range(40)
    lost = NodeOutage(graph=FullyConnected(num_nodes=num_nodes), probability=probability, seed=1)
    down = [num_nodes - np.unique(e.source[e.source != e.target]).size for e in map(lost.edges, rounds)]
    assert abs(np.mean(down) / num_nodes - probability) < 4 * (0.21 / (40 * num_nodes)) ** 0.5
    directed = RandomDirected(num_nodes=num_nodes, rate_low=1, rate_high=1)
    faulty = MessageLoss(graph=directed, probability=probability, seed=1)
    up = np.mean([(e.source != e.target).sum() for e in map(faulty.edges, rounds)]) / (num_nodes * (num_nodes - 1))
    assert abs(1 - up - probability) < 4 * (0.21 / (40 * num_nodes * (num_nodes - 1))) ** 0.5


def test_message_loss_is_mutual_on_symmetric_weights_and_one_way_on_others():
    mutual = MessageLoss(graph=FullyConnected(num_nodes=5), probability=0.5, seed=0)
    assert mutual.stochasticity == "double"
    for step in ROUNDS:
        matrix = mutual.edges(step).to_matrix(5)
        np.testing.assert_array_equal(matrix, matrix.T)
    one_way = MessageLoss(graph=RandomDirected(num_nodes=5, rate_low=1, rate_high=1), probability=0.5, seed=0)
    halves = [one_way.edges(step).to_matrix(5) for step in ROUNDS]
    assert any(((m != 0) != (m != 0).T).any() for m in halves)


def test_a_node_that_is_down_is_alone():
    faulty = NodeOutage(graph=FullyConnected(num_nodes=5), probability=0.5, seed=0)
    seen = 0
    for step in ROUNDS:
        matrix = faulty.edges(step).to_matrix(5)
        alone = np.flatnonzero(np.diag(matrix) == 1)
        seen += alone.size
        others = np.setdiff1d(np.arange(5), alone)
        np.testing.assert_array_equal(matrix[np.ix_(alone, alone)], np.eye(alone.size))
        assert (matrix[np.ix_(others, others)] > 0).all()
        assert not matrix[np.ix_(alone, others)].any()
        assert not matrix[np.ix_(others, alone)].any()
    assert 0 < seen < 5 * len(ROUNDS)


@pytest.mark.parametrize("kind", [MessageLoss, NodeOutage])
def test_row_stochastic_weights_return_to_the_receiver(kind):
    rng = np.random.default_rng(0)
    matrix = rng.uniform(0.1, 1, (5, 5))
    faulty = kind(graph=Matrix(matrix / matrix.sum(axis=1, keepdims=True), "row"), probability=0.4, seed=0)
    assert faulty.stochasticity == "row"
    check_stochastic(faulty, num_rounds=30)


@pytest.mark.parametrize("kind", [MessageLoss, NodeOutage])
def test_doubly_stochastic_weights_that_are_not_symmetric_become_column_stochastic(kind):
    shift = np.roll(np.eye(5), 1, axis=0)
    # A symmetric support whose two directions carry different weights, and a self-weight of 0.
    skewed = Matrix(0.7 * shift + 0.3 * shift.T, "double")
    assert not skewed.directed
    for graph in (skewed, OnePeerExponential(num_nodes=5)):
        faulty = kind(graph=graph, probability=0.4, seed=0)
        assert faulty.stochasticity == "column"
        check_stochastic(faulty, num_rounds=30)
        rows = [faulty.edges(step).to_matrix(5).sum(axis=1) for step in ROUNDS]
        assert max(np.abs(row - 1).max() for row in rows) > 0.1
    assert kind(graph=OnePeerExponential(num_nodes=2), probability=0.4, seed=0).stochasticity == "double"


def test_push_sum_keeps_its_mass_and_finds_the_mean(fault, tmp_path):
    graph = make("random_directed", tmp_path, fault)
    network = Network(graph, Placement(NUM_NODES), torch.device("cpu"))
    start = torch.randn(NUM_NODES, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, weight = start.clone(), torch.ones(NUM_NODES, dtype=torch.float64)
    for step in range(150):
        x, weight = network.mix((x, weight), step)
        torch.testing.assert_close(x.sum(dim=0), start.sum(dim=0), rtol=0, atol=1e-12)
        torch.testing.assert_close(weight.sum(), torch.tensor(float(NUM_NODES)).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(x / weight[:, None], start.mean(dim=0).expand_as(start), rtol=0, atol=1e-10)


def test_only_messages_that_arrive_are_counted(fault, tmp_path):
    graph = make("fully_connected", tmp_path, fault)
    network = Network(graph, Placement(NUM_NODES), torch.device("cpu"))
    expected = 0
    for step in range(10):
        network.mix((torch.zeros(NUM_NODES, 3),), step)
        expected += int((graph.edges(step).source != graph.edges(step).target).sum())
    assert network.ledger.messages == expected < 10 * NUM_NODES * (NUM_NODES - 1)
    assert network.ledger.bytes == 12 * expected


def test_dsgd_is_allowed_on_symmetric_weights_and_refused_on_others(composed, fault):
    algorithm = DSGD(lr=0.1, lr_schedule=Constant(), momentum=0.0, order="adapt_then_combine")
    settings = composed("algorithm=dsgd", "graph=ring", "problem=quadratic", f"faults={fault}", "num_nodes=6")
    components = build(settings)
    assert isinstance(components.graph, FaultyGraph)
    assert isinstance(components.graph.graph, Ring)
    assert components.graph.seed == settings["seed"]
    check(settings, components, 1)
    refused = instantiate(settings["faults"], graph=OnePeerExponential(num_nodes=6))
    name = type(refused).__name__
    with pytest.raises(ValueError, match=f"OnePeerExponential with {name} is column-stochastic; use algorithm=sgp"):
        check_weights(algorithm, refused)


def test_a_schedule_that_a_fault_cuts_is_refused():
    """99.9 % of the messages of a ring of 50 nodes are lost: 100 rounds do not connect it."""
    graph = MessageLoss(graph=Ring(num_nodes=50), probability=0.999, seed=0)
    with pytest.raises(ValueError, match=r"graph Ring with MessageLoss cannot mix: over 100 rounds"):
        check_mixes(graph)


def test_bursts_have_the_rate_the_length_and_the_correlation_of_the_chain():
    """Closed forms of Gilbert and Elliott, on 380 links over 400 rounds; sums over links are independent."""
    p, r, num_nodes, rounds = 0.06, 0.25, 20, 400
    graph = BurstLoss(graph=FullyConnected(num_nodes=num_nodes), good_to_bad=p, bad_to_good=r, seed=5)
    links = np.flatnonzero(~np.eye(num_nodes, dtype=bool))
    lost = np.stack([graph.is_lost(links, step) for step in range(rounds)])
    rate = p / (p + r)
    assert graph.loss_rate == pytest.approx(rate)

    def near(values, expected):
        """Means over links, within 4 standard errors."""
        return abs(values.mean() - expected) < 4 * values.std() / values.size**0.5

    assert near(lost.mean(axis=0), rate)
    assert near(lost[0].astype(float), rate)  # stationary from the first round on
    for apart in (1, 3, 8):
        together = (lost[:-apart] & lost[apart:]).mean(axis=0)
        assert near(together, rate**2 + rate * (1 - rate) * (1 - p - r) ** apart)
    ends = (lost[:-1] & ~lost[1:]).sum(axis=0)
    # Rounds lost for every burst that ends; the ratio of means is within 4 standard errors of 1 / r.
    difference = lost[:-1].sum(axis=0) - ends / r
    assert abs(difference.mean()) < 4 * difference.std() / links.size**0.5
    assert lost[:-1].sum() / ends.sum() == pytest.approx(1 / r, rel=0.05)

    mild = BurstLoss(
        graph=FullyConnected(num_nodes=num_nodes), good_to_bad=p, bad_to_good=r, loss_good=0.1, loss_bad=0.7, seed=5
    )
    assert mild.loss_rate == pytest.approx((r * 0.1 + p * 0.7) / (p + r))
    assert near(np.stack([mild.is_lost(links, step) for step in range(rounds)]).mean(axis=0), mild.loss_rate)


def test_the_chain_in_any_round_is_the_one_that_steps_from_round_to_round():
    """The same draws, used one round after the other."""
    p, r, chains = 0.1, 0.3, np.arange(50)
    for stationary in (True, False):
        state = np.zeros(50, dtype=bool)
        for step in range(40):
            draws = uniforms(4, "chain", chains, step, 2)
            renewed = draws[:, 0] < p + r if step else np.full(50, stationary)
            state = np.where(renewed, draws[:, 1] < p / (p + r), state)
            found = is_in_state_1(4, "chain", chains, step, into=p, out_of=r, starts_stationary=stationary)
            np.testing.assert_array_equal(found, state)


def test_bursts_that_would_repel_each_other_are_refused():
    with pytest.raises(ValueError, match=r"faults\.good_to_bad=0\.5: expected at most 1 - faults\.bad_to_good = 0\.2"):
        BurstLoss(graph=Ring(num_nodes=3), good_to_bad=0.5, bad_to_good=0.8)
