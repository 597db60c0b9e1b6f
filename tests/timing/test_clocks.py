"""Local clocks of synchronous rounds against a discrete-event program, and against one clock for all."""

import json

import numpy as np
import pytest

from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.random_matching import RandomMatching
from simulator.graphs.ring import Ring
from simulator.graphs.star import Star
from simulator.network.ledger import LinkModel, Links
from simulator.timing.clocks import Clocks
from simulator.timing.constant import Constant
from simulator.timing.lognormal import Lognormal
from simulator.timing.routes import Routes
from simulator.timing.trace import Trace
from tests.timing.event_loops import synchronous

NUM_NODES = 9
GRAPHS = {
    "ring": Ring(num_nodes=NUM_NODES),
    "star": Star(num_nodes=NUM_NODES),
    "random_directed": RandomDirected(num_nodes=NUM_NODES, rate_low=0.1, rate_high=0.5, seed=4),
    "one_peer_exponential": OnePeerExponential(num_nodes=NUM_NODES),
}
NUM_BYTES = 1000


def lognormal(**further):
    settings = {"latency_s": 0.05, "latency_sigma": 0.7, "bandwidth_bytes_per_s": 8000.0, "bandwidth_sigma": 0.6}
    return Lognormal(num_nodes=NUM_NODES, step_s=0.3, sigma=0.8, node_sigma=0.4, seed=2, **{**settings, **further})


def run(clocks, graph, rounds, rounds_per_step=1, num_bytes=NUM_BYTES):
    for r in rounds:
        if r % rounds_per_step == 0:
            clocks.compute(r // rounds_per_step)
        clocks.round(Routes.build(graph.edges(r), clocks.timing.links), num_bytes)
    return clocks


def pairs(graph, r):
    edges = graph.edges(r)
    return [(j, i) for j, i in zip(edges.source.tolist(), edges.target.tolist(), strict=True) if i != j]


@pytest.mark.parametrize("rounds_per_step", [1, 3])
@pytest.mark.parametrize("limits", ["both", "uplink", "downlink", "none"])
@pytest.mark.parametrize("name", GRAPHS)
def test_clocks_are_those_of_a_discrete_event_program(name, limits, rounds_per_step):
    limit = {"both": {}, "none": {"bandwidth_bytes_per_s": None}}
    limit |= {"uplink": {"bandwidth_bytes_per_s": None, "uplink_bytes_per_s": 8000.0}}
    limit |= {"downlink": {"bandwidth_bytes_per_s": None, "downlink_bytes_per_s": 8000.0}}
    timing, graph, num_rounds = lognormal(**limit[limits]), GRAPHS[name], 30
    clocks = run(Clocks(timing), graph, range(num_rounds), rounds_per_step)
    end, idle = synchronous(timing, [pairs(graph, r) for r in range(num_rounds)], rounds_per_step, NUM_BYTES)
    np.testing.assert_allclose(clocks.now_s, end, rtol=0, atol=1e-9)
    np.testing.assert_allclose(clocks.idle_s, idle, rtol=0, atol=1e-9)
    assert clocks.sim_s == pytest.approx(end.max(), abs=1e-9)
    assert clocks.sim_mean_s == pytest.approx(end.mean(), abs=1e-9)
    assert clocks.idle_share == pytest.approx(idle.sum() / end.sum(), abs=1e-9)
    assert 0 < clocks.idle_share < 1


def test_clocks_follow_a_trace_by_time(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("node,start_s,step_s\n0,0,0.5\n1,0,0.1\n1,3,2.0\n1,9,0.2\n2,0,0.4\n")
    timing = Trace(num_nodes=NUM_NODES, path=str(path), latency_s=0.01)
    clocks = run(Clocks(timing), GRAPHS["ring"], range(40))
    end, _ = synchronous(timing, [pairs(GRAPHS["ring"], r) for r in range(40)], 1, NUM_BYTES)
    np.testing.assert_allclose(clocks.now_s, end, rtol=0, atol=1e-9)


def one_clock(graph, num_rounds, latency_s, bandwidth):
    model = LinkModel(latency_s, bandwidth)
    total = 0.0
    for r in range(num_rounds):
        edges = graph.edges(r)
        total += model.round_s(Links.build(edges.source, edges.target, graph.num_nodes).max_degree, NUM_BYTES)
    return total


@pytest.mark.parametrize(
    ("graph", "bandwidth", "num_rounds"),
    [
        (DirectedRing(num_nodes=7), 8000.0, 20),
        (OnePeerExponential(num_nodes=8), 8000.0, 20),
        (OnePeerExponential(num_nodes=7), 8000.0, 20),
        (RandomMatching(num_nodes=8), 8000.0, 20),
        (Ring(num_nodes=7), 1e300, 20),
        (Star(num_nodes=7), 1e300, 20),
        (FullyConnected(num_nodes=7), 1e300, 20),
        (Star(num_nodes=7), 8000.0, 1),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "edges") else str(value),
)
@pytest.mark.parametrize("step_s", [0.0, 0.25])
def test_equal_clocks_and_links_give_the_time_of_one_clock(graph, bandwidth, num_rounds, step_s):
    timing = Constant(num_nodes=graph.num_nodes, step_s=step_s, latency_s=0.5, bandwidth_bytes_per_s=bandwidth)
    clocks = run(Clocks(timing), graph, range(num_rounds))
    expected = num_rounds * step_s + one_clock(graph, num_rounds, 0.5, bandwidth)
    assert clocks.sim_s == pytest.approx(expected, rel=1e-12)


def test_a_first_round_takes_at_least_the_time_of_one_clock():
    for name, graph in {**GRAPHS, "full": FullyConnected(num_nodes=NUM_NODES)}.items():
        timing = Constant(num_nodes=NUM_NODES, step_s=0.0, latency_s=0.5, bandwidth_bytes_per_s=8000.0)
        sim_s = run(Clocks(timing), graph, range(1)).sim_s
        assert sim_s >= one_clock(graph, 1, 0.5, 8000.0) * (1 - 1e-12), name
    # The last of the full graph: everybody sends to the highest node last, so its downlink gets all at once.
    assert sim_s == pytest.approx(0.5 + (2 * NUM_NODES - 3) * NUM_BYTES / 8000.0, rel=1e-12)


def test_lengths_by_edge_and_edges_without_a_message():
    timing = Constant(num_nodes=3, step_s=1.0, latency_s=0.5, bandwidth_bytes_per_s=10.0)
    clocks = Clocks(timing)
    clocks.compute(0, np.array([True, False, True]))
    assert clocks.now_s.tolist() == [1.0, 0.0, 1.0]
    routes = Routes.build(Star(num_nodes=3).edges(0), timing.links)
    assert list(zip(routes.source, routes.target, strict=True)) == [(0, 1), (0, 2), (1, 0), (2, 0)]
    clocks.round(routes, np.array([20, 40, 0, 0]))
    assert clocks.now_s.tolist() == [1.0, 3.5, 7.5]
    assert clocks.idle_s.tolist() == [0.0, 3.5, 6.5]
    # Node 0 goes on sending until 7, so its next message waits.
    clocks.round(routes, np.array([10, 0, 0, 0]))
    assert clocks.now_s.tolist() == [1.0, 8.5, 7.5]


def test_clocks_continue_from_a_checkpoint_bit_for_bit():
    timing, graph = lognormal(), GRAPHS["random_directed"]
    whole = run(Clocks(timing), graph, range(40))
    first = run(Clocks(timing), graph, range(17))
    second = Clocks(timing)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    run(second, graph, range(17, 40))
    assert second.state_dict() == whole.state_dict()


def test_nothing_takes_time_at_first():
    clocks = Clocks(Constant(num_nodes=2, step_s=0.0))
    assert (clocks.sim_s, clocks.sim_mean_s, clocks.idle_share) == (0.0, 0.0, 0.0)


def test_the_timeline_has_the_spans_of_the_first_rounds():
    timing = Constant(num_nodes=3, step_s=1.0, latency_s=0.5, bandwidth_bytes_per_s=10.0)
    clocks = Clocks(timing)
    clocks.compute(0, np.array([True, False, True]))
    routes = Routes.build(Star(num_nodes=3).edges(0), timing.links)
    clocks.round(routes, np.array([20, 40, 0, 0]))
    computing = [("computing", 0, 0.0, 1.0), ("computing", 2, 0.0, 1.0)]
    waiting = [("waiting", 1, 0.0, 3.5), ("waiting", 2, 1.0, 7.5)]
    assert clocks.timeline.spans == [*computing, ("sending", 0, 1.0, 7.0), *waiting]
    run(clocks, Star(num_nodes=3), range(40))
    num_spans = len(clocks.timeline.spans)
    assert clocks.timeline.is_full
    run(clocks, Star(num_nodes=3), range(5))
    assert len(clocks.timeline.spans) == num_spans
