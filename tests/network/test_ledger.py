"""The ledger against counting edge by edge, and the model of simulated links."""

import json
from collections import defaultdict

import numpy as np
import pytest

from simulator.network import ledger as ledger_module
from simulator.network.ledger import Ledger, LinkModel, Links

NUM_NODES = 7


def random_rounds(count, seed=0):
    """Rounds of (phase, edges with self-loops, payload), some edge lists used several times."""
    rng = np.random.default_rng(seed)
    lists = []
    for _ in range(4):
        pairs = [(s, t) for s in range(NUM_NODES) for t in range(NUM_NODES) if s == t or rng.random() < 0.4]
        lists.append(pairs)
    lists.append([(node, node) for node in range(NUM_NODES)])
    picks = rng.integers(0, len(lists), count)
    return [(("inner", "hypergradient")[i % 2], lists[pick], int(rng.integers(1, 50))) for i, pick in enumerate(picks)]


def links_of(pairs):
    source, target = np.array(pairs).T
    return Links.build(source, target, NUM_NODES)


class ByHand:
    """Counts one edge after the other."""

    def __init__(self, rounds, link_model):
        self.phase_bytes, self.phase_messages = defaultdict(int), defaultdict(int)
        self.sent, self.received = [0] * NUM_NODES, [0] * NUM_NODES
        self.edge_bytes, self.edge_messages = defaultdict(int), defaultdict(int)
        self.seconds = 0.0
        for phase, pairs, payload in rounds:
            out, into = [0] * NUM_NODES, [0] * NUM_NODES
            for source, target in pairs:
                if source == target:
                    continue
                out[source] += 1
                into[target] += 1
                self.phase_bytes[phase] += payload
                self.phase_messages[phase] += 1
                self.sent[source] += payload
                self.received[target] += payload
                self.edge_bytes[source, target] += payload
                self.edge_messages[source, target] += 1
            busiest = max(out + into)
            if busiest:
                self.seconds += link_model.latency_s + busiest * payload / link_model.bandwidth_bytes_per_s


def compare(ledger, by_hand):
    for phase, traffic in ledger.phases.items():
        assert (traffic.bytes, traffic.messages) == (by_hand.phase_bytes[phase], by_hand.phase_messages[phase])
    assert ledger.bytes == sum(by_hand.phase_bytes.values())
    assert ledger.messages == sum(by_hand.phase_messages.values())
    assert ledger.node_sent.tolist() == by_hand.sent
    assert ledger.node_received.tolist() == by_hand.received
    assert ledger.link_time_s == pytest.approx(by_hand.seconds, rel=1e-12)
    table = ledger.per_edge()
    edges = list(zip(table["source"].tolist(), table["target"].tolist(), strict=True))
    assert len(edges) == len(set(edges))
    assert dict(zip(edges, table["bytes"].tolist(), strict=True)) == by_hand.edge_bytes
    assert dict(zip(edges, table["messages"].tolist(), strict=True)) == by_hand.edge_messages


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("limit", [2_000_000, 30])
def test_totals_are_those_of_counting_by_hand(monkeypatch, reuse, limit):
    monkeypatch.setattr(ledger_module, "_MAX_OPEN_ENTRIES", limit)
    rounds = random_rounds(40)
    model = LinkModel(latency_s=0.5, bandwidth_bytes_per_s=100.0)
    ledger = Ledger(NUM_NODES, model)
    kept = {}
    for phase, pairs, payload in rounds:
        links = kept.setdefault(id(pairs), links_of(pairs)) if reuse else links_of(pairs)
        ledger.record(phase, links, payload)
        if limit == 30:
            assert sum(open_links.codes.size for open_links, _, _ in ledger._open.values()) <= limit
    compare(ledger, ByHand(rounds, model))
    compare(ledger, ByHand(rounds, model))  # reading changes nothing


def test_a_ledger_continues_from_its_state_in_a_json_file():
    rounds = random_rounds(30, seed=1)
    model = LinkModel(latency_s=0.1, bandwidth_bytes_per_s=10.0)
    first = Ledger(NUM_NODES, model)
    for phase, pairs, payload in rounds[:13]:
        first.record(phase, links_of(pairs), payload)
    second = Ledger(NUM_NODES, model)
    second.record("inner", links_of(rounds[0][1]), 999)  # forgotten
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    compare(second, ByHand(rounds[:13], model))
    for phase, pairs, payload in rounds[13:]:
        second.record(phase, links_of(pairs), payload)
    compare(second, ByHand(rounds, model))


def test_links_leave_self_loops_out():
    links = Links.build(np.array([0, 1, 2, 2]), np.array([0, 2, 1, 0]), 4)
    assert links.codes.tolist() == [1 * 4 + 2, 2 * 4 + 1, 2 * 4 + 0]
    assert links.out_degrees.tolist() == [0, 1, 2, 0]
    assert links.in_degrees.tolist() == [1, 1, 1, 0]
    assert links.max_degree == 2


def test_a_round_lasts_as_long_as_its_busiest_node():
    model = LinkModel(latency_s=2.0, bandwidth_bytes_per_s=10.0)
    assert model.round_s(3, 5) == 2.0 + 3 * 5 / 10
    assert model.round_s(0, 5) == 0.0
    star = Links.build(np.array([1, 2, 3]), np.array([0, 0, 0]), 4)
    assert star.max_degree == 3  # receiving counts like sending


def test_counts_do_not_overflow_32_bits():
    ledger = Ledger(2)
    links = Links.build(np.array([0]), np.array([1]), 2)
    for _ in range(3):
        ledger.record("inner", links, 2**31)
    assert ledger.bytes == ledger.node_sent[0] == ledger.per_edge()["bytes"][0] == 3 * 2**31


def test_an_unused_ledger_is_empty():
    ledger = Ledger(3)
    assert ledger.bytes == ledger.messages == 0
    assert ledger.per_edge()["source"].size == 0
    assert Ledger(3).state_dict() == ledger.state_dict()
