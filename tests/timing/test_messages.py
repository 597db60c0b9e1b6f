"""Schedules of asynchronous messages against a plain event loop, and what their waves promise."""

import json

import numpy as np
import pytest

from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.graphs.star import Star
from simulator.timing.constant import Constant
from simulator.timing.fragments import Cut, FragmentRounds
from simulator.timing.lognormal import Lognormal
from simulator.timing.messages import MessageSchedule
from simulator.timing.rounds import Rounds
from simulator.timing.trace import Trace
from simulator.timing.two_speed import TwoSpeed
from tests.timing.event_loops import asynchronous, fragments

NUM_NODES, NUM_BYTES, NUM_EVENTS = 7, 100, 140
GRAPHS = {
    "ring": Ring(num_nodes=NUM_NODES),
    "star": Star(num_nodes=NUM_NODES),
    "random_directed": RandomDirected(num_nodes=NUM_NODES, rate_low=0.1, rate_high=0.5, seed=4),
    "one_peer_exponential": OnePeerExponential(num_nodes=NUM_NODES),
    "self_loop": SelfLoop(num_nodes=NUM_NODES),
}
# Numbers of few binary digits are added without rounding, so that ties are ties in every order of adding.
TIMINGS = {
    "lognormal": Lognormal(
        num_nodes=NUM_NODES, step_s=0.3, sigma=0.8, node_sigma=0.7, latency_s=0.2, latency_sigma=1.0, seed=3
    ),
    "limited": Lognormal(
        num_nodes=NUM_NODES,
        step_s=0.3,
        sigma=0.8,
        latency_s=0.1,
        latency_sigma=1.0,
        bandwidth_bytes_per_s=1500.0,
        bandwidth_sigma=0.5,
    ),
    "overloaded": Lognormal(num_nodes=NUM_NODES, step_s=0.3, sigma=0.3, bandwidth_bytes_per_s=400.0),
    "equal": Constant(num_nodes=NUM_NODES, step_s=0.25),
    "equal_late": Constant(num_nodes=NUM_NODES, step_s=0.25, latency_s=0.5),
    "equal_limited": Constant(num_nodes=NUM_NODES, step_s=0.25, latency_s=0.125, bandwidth_bytes_per_s=1600.0),
    "two_speed": TwoSpeed(num_nodes=NUM_NODES, step_s=0.25, slow_share=0.4, slow_factor=3.0, latency_s=0.25),
}


def schedule_of(timing, graph, **options):
    return MessageSchedule(timing, Rounds(graph, timing.links, NUM_BYTES), **options)


def pairs_of(graph):
    def edges_of(r):
        edges = graph.edges(r)
        return [(j, i) for j, i in zip(edges.source.tolist(), edges.target.tolist(), strict=True) if i != j]

    return edges_of


def records(waves):
    """What :func:`asynchronous` returns, from waves."""
    events = []
    for wave in waves:
        taken = wave.taken
        for e in range(wave.nodes.size):
            own = np.flatnonzero(taken.event == e)
            columns = (taken.source, taken.step, taken.sent_s, taken.arrived_s)
            letters = list(zip(*(column[own].tolist() for column in columns), strict=True))
            ages = taken.age_steps[own].tolist()
            events.append((int(wave.nodes[e]), int(wave.steps[e]), float(wave.ends_s[e]), letters, ages))
    return sorted(events, key=lambda event: (event[2], event[0]))


def assert_same(found, expected):
    assert [event[:2] for event in found] == [event[:2] for event in expected]
    assert [[m[:2] for m in event[3]] for event in found] == [[m[:2] for m in event[3]] for event in expected]
    assert [event[4] for event in found] == [event[4] for event in expected]
    np.testing.assert_allclose([e[2] for e in found], [e[2] for e in expected], rtol=0, atol=1e-9)
    letters, others = ([m[2:] for event in events for m in event[3]] for events in (found, expected))
    np.testing.assert_allclose(letters, others, rtol=0, atol=1e-9)


@pytest.mark.parametrize("takes_in", ["end", "start"])
@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("graph", GRAPHS)
def test_events_are_those_of_a_plain_event_loop(graph, timing, takes_in):
    schedule = schedule_of(TIMINGS[timing], GRAPHS[graph], takes_in=takes_in, window_events=40)
    found = records(schedule.waves(until_events=NUM_EVENTS))
    expected = asynchronous(TIMINGS[timing], pairs_of(GRAPHS[graph]), NUM_BYTES, NUM_EVENTS, takes_in)
    assert_same(found, expected)
    assert schedule.num_done == NUM_EVENTS


def test_a_trace_by_time_is_followed(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("node,start_s,step_s\n0,0,0.5\n1,0,0.1\n1,1,1.7\n1,5,0.2\n2,0,0.4\n")
    timing = Trace(num_nodes=NUM_NODES, path=str(path), latency_s=0.07)
    schedule = schedule_of(timing, GRAPHS["ring"], window_events=40)
    expected = asynchronous(timing, pairs_of(GRAPHS["ring"]), NUM_BYTES, NUM_EVENTS, "end")
    assert_same(records(schedule.waves(until_events=NUM_EVENTS)), expected)


@pytest.mark.parametrize("takes_in", ["end", "start"])
@pytest.mark.parametrize("graph", ["ring", "one_peer_exponential", "random_directed"])
def test_equal_clocks_and_no_delay_are_the_synchronous_rounds(graph, takes_in):
    schedule = schedule_of(TIMINGS["equal"], GRAPHS[graph], takes_in=takes_in)
    waves = list(schedule.waves(until_events=20 * NUM_NODES))
    if graph == "ring":  # where all hear others in every round, a wave is a round
        assert len(waves) == 20
        assert all((wave.steps == k).all() and wave.nodes.size == NUM_NODES for k, wave in enumerate(waves))
    for node, step, _, letters, ages in records(waves):
        heard = [j for j, i in pairs_of(GRAPHS[graph])(step - 1) if i == node] if step else []
        assert [letter[:2] for letter in letters] == [(j, step - 1) for j in sorted(heard)]
        assert set(ages) <= {0}


@pytest.fixture(params=["lognormal", "limited", "two_speed"])
def timing(request):
    return TIMINGS[request.param]


@pytest.mark.parametrize("takes_in", ["end", "start"])
def test_waves_hold_independent_events_and_as_many_as_can_be(timing, takes_in):
    schedule = schedule_of(timing, GRAPHS["random_directed"], takes_in=takes_in)
    wave_of = {}
    sizes = []
    for index, wave in enumerate(schedule.waves(until_events=700)):
        assert (np.diff(wave.nodes) > 0).all()
        needs = [
            [(int(node), int(step) - 1)] if step else [] for node, step in zip(wave.nodes, wave.steps, strict=True)
        ]
        for event, source, step in zip(wave.taken.event, wave.taken.source, wave.taken.step, strict=True):
            needs[event].append((int(source), int(step)))
        # Every event comes right behind the last one that it depends on: earlier would be too early.
        assert [max((wave_of[need] for need in own), default=-1) for own in needs] == [index - 1] * len(needs)
        wave_of |= {(int(node), int(step)): index for node, step in zip(wave.nodes, wave.steps, strict=True)}
        sizes.append(wave.nodes.size)
    assert len(wave_of) == sum(sizes) == 700
    assert max(sizes) > 1


@pytest.mark.parametrize("discards", [True, False])
@pytest.mark.parametrize("timing", ["limited", "overloaded", "two_speed"])
def test_fragments_are_those_of_a_plain_event_loop(timing, discards):
    timing, graph = TIMINGS[timing], GRAPHS["random_directed"]
    cut = Cut(np.array([60, 60, 50]), 2, discards, 3)
    rounds, draws = FragmentRounds(graph, timing.links, cut), FragmentRounds(graph, timing.links, cut)

    def messages_of(i, k):
        table, row = draws.stack(np.array([i]), np.array([k]))
        own = slice(table.first[row[0]], table.first[row[0] + 1])
        return list(zip(table.fragment[own].tolist(), table.target[own].tolist(), strict=True))

    loop = fragments(timing, messages_of, lambda f: cut.payload_bytes[f], NUM_EVENTS, discards=discards)
    found, num_sent = [], 0
    for wave in MessageSchedule(timing, rounds, takes_in="start", window_events=20).waves(until_events=NUM_EVENTS):
        taken = wave.taken
        num_sent += wave.sent.event.size
        for e in range(wave.nodes.size):
            own = np.flatnonzero(taken.event == e)
            letters = (column[own].tolist() for column in (taken.source, taken.step, taken.fragment))
            found.append(
                (float(wave.ends_s[e]), int(wave.nodes[e]), int(wave.steps[e]), sorted(zip(*letters, strict=True)))
            )
    found = [event[1:] for event in sorted(found)]
    assert found == [(i, k, sorted(taken)) for i, k, _, taken, _ in loop]
    num_dropped = sum(len(messages_of(i, k)) for i, k, *_ in loop) - num_sent
    counted = sum(event[4] for event in loop)
    assert counted <= num_dropped <= counted + 6 * NUM_NODES  # of every node's last event the loop does not know yet
    assert (num_dropped > 0) == (discards and timing is not TIMINGS["two_speed"])


def mailed(graph, events):
    """Values and weights of push-sum in these events, one after the other, and what is still in mailboxes."""
    values, weights = np.arange(1.0, NUM_NODES + 1), np.ones(NUM_NODES)
    mail = {}
    for i, k, taken in events:
        for source, step in taken:
            value, weight = mail.pop((source, step, i))
            values[i] += value
            weights[i] += weight
        values[i] += 0.01 * np.sin(values[i] / weights[i])
        edges = graph.edges(k)
        share = {int(t): w for s, t, w in zip(edges.source, edges.target, edges.weight, strict=True) if s == i}
        for target, weight in share.items():
            if target != i:
                mail[i, k, target] = (weight * values[i], weight * weights[i])
        values[i] *= share[i]
        weights[i] *= share[i]
    return values, weights, mail


def test_any_order_within_a_wave_gives_the_bits_of_the_event_loop(timing):
    graph = GRAPHS["random_directed"]
    loop = asynchronous(timing, pairs_of(graph), NUM_BYTES, NUM_EVENTS, "end")
    expected = mailed(graph, [(i, k, [m[:2] for m in taken]) for i, k, _, taken, _ in loop])
    rng = np.random.Generator(np.random.Philox(0))
    events = []
    for wave in schedule_of(timing, graph, window_events=50).waves(until_events=NUM_EVENTS):
        for e in rng.permutation(wave.nodes.size).tolist():
            own = wave.taken.event == e
            taken = list(zip(wave.taken.source[own].tolist(), wave.taken.step[own].tolist(), strict=True))
            events.append((int(wave.nodes[e]), int(wave.steps[e]), taken))
    values, weights, mail = mailed(graph, events)
    assert (values == expected[0]).all()
    assert (weights == expected[1]).all()
    assert mail == expected[2]
    assert len(mail) > 0
    assert weights.sum() + sum(weight for _, weight in mail.values()) == pytest.approx(NUM_NODES, abs=1e-12)


def test_what_is_sent_stands_in_the_waves(timing):
    graph = GRAPHS["one_peer_exponential"]
    for wave in schedule_of(timing, graph).waves(until_events=100):
        for e, (node, step) in enumerate(zip(wave.nodes.tolist(), wave.steps.tolist(), strict=True)):
            edges = graph.edges(step)
            out = (edges.source == node) & (edges.target != node)
            own = wave.sent.event == e
            assert wave.sent.target[own].tolist() == edges.target[out].tolist()
            assert wave.sent.weight[own].tolist() == edges.weight[out].tolist()
            assert wave.own_weight[e] == edges.weight[(edges.source == node) & (edges.target == node)]
        assert (wave.taken.weight == 0.5).all()
        assert (wave.age_s == wave.ends_s[wave.taken.event] - wave.taken.sent_s).all()


def test_barriers_and_windows_change_neither_events_nor_messages(timing):
    def schedule(window):
        return schedule_of(timing, GRAPHS["random_directed"], window_events=window)

    whole = records(schedule(1000).waves(until_events=300))
    cut = schedule(30)
    parts = []
    for barrier in (0, 1, 17, 17, 140, 300):
        waves = list(cut.waves(until_events=barrier))
        assert cut.num_done == barrier
        parts += records(waves)
    assert parts == whole

    by_time = schedule(30)
    parts = []
    for time in (0.0, 1.0, 1.25, 6.0, whole[-1][2]):
        parts += records(by_time.waves(until_s=time))
        assert len(parts) == by_time.num_done == sum(event[2] <= time for event in whole)
    assert parts == whole
    both = schedule(30)
    assert len(records(both.waves(until_s=1.0, until_events=10**6))) == sum(event[2] <= 1.0 for event in whole)
    assert len(records(both.waves(until_s=1e9, until_events=200))) == 200 - sum(event[2] <= 1.0 for event in whole)


@pytest.mark.parametrize("stop", [1, 35, 36, 111])
def test_a_schedule_continues_from_a_checkpoint_wave_by_wave(timing, stop):
    def schedule():
        return schedule_of(timing, GRAPHS["random_directed"], window_events=36)

    first = schedule()
    list(first.waves(until_events=stop))
    saved = json.loads(json.dumps(first.state_dict()))
    second = schedule()
    second.load_state_dict(saved)
    assert second.num_done == stop
    assert json.loads(json.dumps(second.state_dict())) == saved
    pairs = zip(first.waves(until_events=300), second.waves(until_events=300), strict=True)
    for one, other in pairs:
        for column in ("nodes", "steps", "starts_s", "ends_s", "own_weight", "age_s"):
            assert (getattr(one, column) == getattr(other, column)).all()
        for column in ("event", "source", "step", "weight", "sent_s", "arrived_s", "age_steps"):
            assert (getattr(one.taken, column) == getattr(other.taken, column)).all()
    assert json.dumps(second.state_dict()) == json.dumps(first.state_dict())


def test_a_step_without_time_is_an_error():
    with pytest.raises(ValueError, match=r"^timing: local step 0 of node 0 takes 0 s; asynchronous algorithms need"):
        schedule_of(Constant(num_nodes=NUM_NODES, step_s=0.0), GRAPHS["ring"])


def test_a_thousand_nodes_of_very_different_speed():
    timing = Lognormal(num_nodes=1000, step_s=0.1, sigma=0.5, node_sigma=1.0, latency_s=0.01, latency_sigma=0.5)
    schedule = schedule_of(timing, DirectedRing(num_nodes=1000), takes_in="start")
    done = np.zeros(1000, dtype=np.int64)
    for wave in schedule.waves(until_events=50_000):
        assert (wave.steps == done[wave.nodes]).all()
        done[wave.nodes] += 1
    assert done.sum() == 50_000
    assert done.max() > 10 * np.median(done)


@pytest.mark.parametrize("takes_in", ["end", "start"])
def test_windows_without_an_event_are_passed_over(takes_in):
    timing = Lognormal(num_nodes=2, step_s=0.3, sigma=4.0, latency_s=5.0, bandwidth_bytes_per_s=1000.0)
    schedule = schedule_of(timing, Ring(num_nodes=2), takes_in=takes_in, window_events=2)
    expected = asynchronous(timing, pairs_of(Ring(num_nodes=2)), NUM_BYTES, 60, takes_in)
    assert_same(records(schedule.waves(until_events=60)), expected)
