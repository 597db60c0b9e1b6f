"""Latencies and bandwidths, and what a message takes in one round."""

import numpy as np
import pytest

from simulator.graphs.base import Edges
from simulator.timing.constant import Constant
from simulator.timing.routes import Routes
from simulator.timing.turns import _one_by_one, take_turns


def pairs_of(num_nodes):
    source, target = np.divmod(np.arange(num_nodes**2), num_nodes)
    return source[source != target], target[source != target]


def test_latencies_are_keyed_by_the_ordered_pair():
    source, target = pairs_of(60)
    links = Constant(num_nodes=60, step_s=1.0, latency_s=0.02, latency_sigma=0.5, seed=1).links
    latency = links.latency_s(source, target)
    assert np.log(latency).std() == pytest.approx(0.5, abs=0.03)
    assert np.median(latency) == pytest.approx(0.02, rel=0.05)
    assert links.latency_s(source[7:8], target[7:8])[0] == latency[7]
    assert (links.latency_s(target, source) != latency).all()
    more = Constant(num_nodes=99, step_s=1.0, latency_s=0.02, latency_sigma=0.5, seed=1).links
    assert (more.latency_s(source, target) == latency).all()


def test_bandwidths_by_node_and_direction():
    equal = Constant(num_nodes=3, step_s=1.0, bandwidth_bytes_per_s=100.0, downlink_bytes_per_s=7.0).links
    assert equal.uplink.tolist() == [100.0] * 3
    assert equal.downlink.tolist() == [7.0] * 3
    assert np.isinf(Constant(num_nodes=3, step_s=1.0).links.uplink).all()
    drawn = Constant(num_nodes=4000, step_s=1.0, bandwidth_bytes_per_s=1e6, bandwidth_sigma=0.4).links
    assert np.log(drawn.uplink).std() == pytest.approx(0.4, abs=0.02)
    assert np.median(drawn.downlink) == pytest.approx(1e6, rel=0.05)
    assert abs(np.corrcoef(np.log(drawn.uplink), np.log(drawn.downlink))[0, 1]) < 0.05


def test_a_file_has_values_of_its_own_for_some_pairs(tmp_path):
    path = tmp_path / "links.csv"
    path.write_text("source,target,latency_s,bandwidth\n2,0,0.5,\n0,1,0.25,50\n1,0,0.75,5000\n")
    links = Constant(num_nodes=3, step_s=1.0, latency_s=0.1, bandwidth_bytes_per_s=100.0, links_path=str(path)).links
    source, target = np.array([0, 0, 1, 2]), np.array([1, 2, 0, 0])
    assert links.latency_s(source, target).tolist() == [0.25, 0.1, 0.75, 0.5]
    assert links.rate(source, target).tolist() == [50.0, 100.0, 100.0, 100.0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0,3,1,1", r"line 2: target=3: nodes are 0 to 2 \(num_nodes=3\)"),
        ("1,1,1,1", r"line 2: a link from node 1 to itself"),
        ("0,1,-1,1", r"line 2: latency_s=-1: expected a finite number of at least 0"),
        ("0,1,1,0", r"line 2: bandwidth=0: expected a positive number"),
        ("0,1,1,1\n0,1,1,1", r"line 3: the link from node 0 to 1 stands there twice"),
    ],
)
def test_a_wrong_link_file_is_one_line(tmp_path, line, message):
    path = tmp_path / "links.csv"
    path.write_text(f"source,target,latency_s,bandwidth\n{line}\n")
    with pytest.raises(ValueError, match=r"^timing\.links_path='.*links\.csv': " + message + "$"):
        Constant(num_nodes=3, step_s=1.0, links_path=str(path)).check()


def test_messages_of_a_round_leave_in_ascending_order_of_target():
    edges = Edges.build([0, 0, 0, 1, 1], [0, 2, 1, 1, 0], [0.2, 0.3, 0.5, 0.9, 0.1])
    timing = Constant(num_nodes=3, step_s=1.0, latency_s=1.0, uplink_bytes_per_s=10.0, downlink_bytes_per_s=5.0)
    routes = Routes.build(edges, timing.links)
    assert list(zip(routes.source, routes.target, routes.weight, strict=True)) == [
        (0, 1, 0.5),
        (0, 2, 0.3),
        (1, 0, 0.1),
    ]
    assert routes.own_weight.tolist() == [0.2, 0.9, 0.0]
    transfer = routes.transfer(20)
    assert transfer.out_s.tolist() == [2.0, 4.0, 2.0]
    # The downlink needs 4 s for what has left within 2 s.
    assert transfer.travel_s.tolist() == [3.0] * 3
    assert transfer.downlink_s.tolist() == [4.0] * 3
    assert transfer.busy_s.tolist() == [4.0, 2.0, 0.0]
    assert routes.transfer(np.array([20, 40, 0])).out_s.tolist() == [2.0, 6.0, 0.0]


@pytest.mark.parametrize("load", [0.3, 0.9, 3.0])
def test_turns_are_those_of_the_plain_recursion_bit_for_bit(load):
    rng = np.random.Generator(np.random.Philox(2))
    ready = np.sort(rng.uniform(0, 100, 1000))
    gap, is_first = rng.exponential(0.1 * load, 1000), rng.uniform(size=1000) < 0.02
    is_first[0] = True
    assert (take_turns(ready, gap, is_first) == _one_by_one(ready, gap, is_first)).all()
    assert take_turns(np.zeros(0), np.zeros(0), np.zeros(0, bool)).size == 0
