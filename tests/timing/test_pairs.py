"""Schedules of meetings in pairs against a plain event loop, and what their waves promise."""

import json

import numpy as np
import pytest

from simulator.graphs.random_matching import RandomMatching
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.graphs.star import Star
from simulator.timing.constant import Constant
from simulator.timing.lognormal import Lognormal
from simulator.timing.pairs import PairSchedule
from simulator.timing.two_speed import TwoSpeed
from tests.timing.event_loops import meetings

NUM_NODES, NUM_BYTES, NUM_EVENTS = 7, 100, 250
GRAPHS = {
    "ring": Ring(num_nodes=NUM_NODES),
    "star": Star(num_nodes=NUM_NODES),
    "random_matching": RandomMatching(num_nodes=NUM_NODES),
    "self_loop": SelfLoop(num_nodes=NUM_NODES),
}
TIMINGS = {
    "lognormal": Lognormal(
        num_nodes=NUM_NODES,
        step_s=0.3,
        sigma=0.8,
        node_sigma=0.7,
        latency_s=0.1,
        latency_sigma=1.0,
        bandwidth_bytes_per_s=500.0,
        bandwidth_sigma=0.5,
        downlink_bytes_per_s=300.0,
    ),
    "equal": Constant(num_nodes=NUM_NODES, step_s=0.25),
    "two_speed": TwoSpeed(num_nodes=NUM_NODES, step_s=0.25, slow_share=0.4, slow_factor=3.0),
}


def exchange_of(timing):
    links = timing.links

    def one_way(i, j):
        pair = (np.array([i]), np.array([j]))
        rate = min(links.uplink[i], links.downlink[j])
        return links.latency_s(*pair)[0] + NUM_BYTES / rate

    return lambda i, j: 0.0 if i == j else max(one_way(i, j), one_way(j, i))


def records(waves):
    events = []
    for wave in waves:
        columns = (wave.nodes, wave.steps, wave.ends_s, wave.partners, wave.age_steps)
        events += zip(*(column.tolist() for column in columns), strict=True)
    return sorted(events, key=lambda event: (event[2], event[0]))


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("graph", GRAPHS)
def test_meetings_are_those_of_a_plain_event_loop(graph, timing):
    schedule = PairSchedule(TIMINGS[timing], GRAPHS[graph], NUM_BYTES, window_events=40)

    def partner_of(node, step):
        return int(schedule.partners(np.array([node]), np.array([step]))[0])

    found = records(schedule.waves(until_events=NUM_EVENTS))
    expected = meetings(TIMINGS[timing], partner_of, exchange_of(TIMINGS[timing]), NUM_EVENTS)
    assert [(i, k, j, age) for i, k, _, j, age in found] == [(i, k, j, age) for i, k, _, j, age in expected]
    np.testing.assert_allclose([e[2] for e in found], [e[2] for e in expected], rtol=0, atol=1e-9)


def test_partners_are_neighbours_drawn_uniformly_by_seed_node_and_step():
    schedule = PairSchedule(TIMINGS["equal"], GRAPHS["star"], NUM_BYTES)
    steps = np.arange(6000)
    hub = schedule.partners(np.zeros(6000, dtype=np.int64), steps)
    counts = np.bincount(hub, minlength=NUM_NODES)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 1000).max() < 150
    assert (schedule.partners(np.full(9, 4), np.arange(9)) == 0).all()
    assert (schedule.partners(np.zeros(3, dtype=np.int64), steps[[70, 5, 8]]) == hub[[70, 5, 8]]).all()
    other = PairSchedule(Constant(num_nodes=NUM_NODES, step_s=0.25, seed=1), GRAPHS["star"], NUM_BYTES)
    assert (other.partners(np.zeros(6000, dtype=np.int64), steps) != hub).mean() > 0.5


@pytest.mark.parametrize("timing", TIMINGS)
def test_waves_are_disjoint_pairs_in_an_order_that_gives_the_same_bits(timing):
    schedule = PairSchedule(TIMINGS[timing], GRAPHS["ring"], NUM_BYTES)
    rng = np.random.Generator(np.random.Philox(0))
    values, last = np.arange(1.0, NUM_NODES + 1), np.full(NUM_NODES, -1)
    for index, wave in enumerate(schedule.waves(until_events=NUM_EVENTS)):
        touched = np.concatenate([wave.nodes, wave.partners])
        assert np.unique(touched).size == touched.size
        assert (np.diff(wave.nodes) > 0).all()
        assert (np.maximum(last[wave.nodes], last[wave.partners]) == index - 1).all()
        last[touched] = index
        for e in rng.permutation(wave.nodes.size):
            pair = [wave.nodes[e], wave.partners[e]]
            values[pair] = values[pair].mean()
            values[pair[0]] -= 0.01 * np.sin(values[pair[0]])
        assert (wave.age_s == wave.ends_s - wave.starts_s).all()
    expected = np.arange(1.0, NUM_NODES + 1)
    again = PairSchedule(TIMINGS[timing], GRAPHS["ring"], NUM_BYTES, window_events=20)
    for i, _, _, j, _ in records(again.waves(until_events=NUM_EVENTS)):
        expected[[i, j]] = expected[[i, j]].mean()
        expected[i] -= 0.01 * np.sin(expected[i])
    assert (values == expected).all()


@pytest.mark.parametrize("stop", [1, 35, 111])
def test_a_schedule_continues_from_a_checkpoint(stop):
    def schedule():
        return PairSchedule(TIMINGS["lognormal"], GRAPHS["random_matching"], NUM_BYTES, window_events=36)

    whole = records(schedule().waves(until_events=200))
    first, second = schedule(), schedule()
    begun = records(first.waves(until_events=stop))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert begun + records(second.waves(until_events=200)) == whole


def test_a_step_without_time_is_an_error():
    with pytest.raises(ValueError, match=r"^timing: local step 0 of node 0 takes 0 s"):
        PairSchedule(Constant(num_nodes=NUM_NODES, step_s=0.0), GRAPHS["ring"], NUM_BYTES)
