"""DivShare against a plain event loop; D-SGD where whole models go to all neighbours without delay."""

import numpy as np
import pytest
import torch

from simulator.graphs.fully_connected import FullyConnected
from simulator.network.fragments import Fragments
from simulator.simulation import Simulation
from simulator.timing.constant import Constant
from simulator.timing.fragments import Cut, FragmentRounds, draw_subsets
from tests.algorithms.asynchronous_oracle import Objectives, divshare

ROOT = ("num_threads=1", "dtype=float64", "compute=vmap", "figures=false", "algorithm=divshare")
EQUAL = ("timing=constant", "timing.latency_s=0", "timing.bandwidth_bytes_per_s=null")
TIMINGS = {
    "lognormal": ("timing=lognormal", "timing.sigma=0.7", "timing.node_sigma=0.4", "timing.latency_s=0.03"),
    "two_speed": ("timing=two_speed", "timing.latency_s=0.1", "timing.latency_sigma=1"),
}
LIMITED = ("timing.bandwidth_bytes_per_s=2e3", "timing.bandwidth_sigma=0.5")
QUADRATIC = ("problem=quadratic", "problem.dim=5", "problem.noise=0.3", "num_nodes=7", "algorithm.lr=0.05")
CUT = ("algorithm.num_fragments=3", "algorithm.out_degree=2")

pytestmark = pytest.mark.usefixtures("one_thread")


def messages_of(made):
    """(fragment, target) pairs of an event, in order, from the draws of the run."""
    algorithm, parts = made.algorithm, made.components
    lengths = Fragments(5, algorithm.num_fragments, algorithm.seed).lengths
    cut = Cut(8 * lengths, algorithm.out_degree, algorithm.discard_unsent, algorithm.seed)
    rounds = FragmentRounds(parts.graph, parts.timing.links, cut)

    def pairs(i, k):
        table, row = rounds.stack(np.array([i]), np.array([k]))
        own = slice(table.first[row[0]], table.first[row[0] + 1])
        return list(zip(table.fragment[own].tolist(), table.target[own].tolist(), strict=True))

    return pairs


@pytest.mark.parametrize("discards", ["true", "false"])
@pytest.mark.parametrize("limits", [(), LIMITED], ids=["unlimited", "limited"])
@pytest.mark.parametrize("timing", TIMINGS)
def test_events_are_those_of_a_plain_event_loop(composed, timing, limits, discards):
    words = (*ROOT, *QUADRATIC, *CUT, *TIMINGS[timing], *limits, "graph=exponential")
    made = Simulation.build(composed(*words, f"algorithm.discard_unsent={discards}"))
    state = made.run(made.init(), 0, 20)
    pairs, columns = messages_of(made), Fragments(5, 3, 0).columns
    columns = [set(own.tolist()) for own in columns]
    objectives = Objectives(made.problem)
    drops = discards == "true"
    x, num_dropped, num_outdated = divshare(
        made.components.timing, pairs, columns, objectives, 20 * 7, 0.05, discards=drops
    )
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
    assert num_outdated > 0
    assert (num_dropped > 0) == (drops and bool(limits))
    assert made.network.events.staleness_max > 1


def test_bytes_are_those_of_the_fragments_that_are_sent(composed):
    made = Simulation.build(composed(*ROOT, *QUADRATIC, *CUT, *TIMINGS["two_speed"], "graph=exponential"))
    state = made.run(made.init(), 0, 20)
    pairs, lengths = messages_of(made), Fragments(5, 3, 0).lengths
    sent = [pair for i in range(7) for k in range(made.network.events.num_steps[i]) for pair in pairs(i, k)]
    numbers = made.evaluate(state, 20).numbers
    assert numbers["comm/messages"] == len(sent) == 20 * 7 * 3 * 2
    assert numbers["comm/bytes"] == 8 * sum(int(lengths[f]) for f, _ in sent) == 8 * 20 * 7 * 5 * 2


@pytest.mark.parametrize(("graph", "num_nodes", "degree"), [("ring", 5, 2), ("ring", 32, 2), ("fully_connected", 6, 5)])
def test_whole_models_to_all_neighbours_are_dsgd(composed, graph, num_nodes, degree):
    """W of these graphs is uniform. Sums may be taken in another order, because columns stand in another order."""
    data = ("dataset=digits", "model=logistic_regression", f"graph={graph}", f"num_nodes={num_nodes}")
    words = (*ROOT, *data, *EQUAL)
    plain = Simulation.build(composed(*words, "algorithm=dsgd"))
    free = Simulation.build(composed(*words, "algorithm.num_fragments=1", f"algorithm.out_degree={degree}"))
    states = [made.run(made.init(), 0, 12) for made in (plain, free)]
    numbers, others = (made.evaluate(state, 12).numbers for made, state in zip((plain, free), states, strict=True))
    torch.testing.assert_close(free.estimate(states[1]), plain.estimate(states[0]), rtol=0, atol=1e-12)
    assert others["comm/bytes"] == numbers["comm/bytes"]
    assert others["time/sim_s"] == pytest.approx(numbers["time/sim_s"], rel=1e-12)
    assert others["train/loss"] == pytest.approx(numbers["train/loss"], rel=1e-12)


def test_targets_are_different_neighbours_and_all_equally_likely():
    degree, cut = np.array([0, 1, 2, 3, 5]), Cut(np.array([8, 8, 8]), 2, True, 4)
    counts = np.zeros((5, 5))
    for step in range(2000):
        chosen = draw_subsets(degree, cut, step)
        for i in range(5):
            for f in range(3):
                own = chosen[i, f][chosen[i, f] >= 0]
                assert len(set(own.tolist())) == own.size == min(2, degree[i])
                counts[i, own] += 1
    share = np.divide(np.minimum(degree, 2), degree, where=degree > 0, out=np.zeros(5))
    expected = np.where(np.arange(5) < degree[:, None], share[:, None], 0.0)
    # Five standard deviations of 6,000 draws.
    np.testing.assert_allclose(counts / 6000, expected, atol=5 * 0.5 / 6000**0.5)


def test_messages_leave_in_random_order():
    timing = Constant(num_nodes=6, step_s=1.0)
    rounds = FragmentRounds(FullyConnected(num_nodes=6), timing.links, Cut(np.array([8, 8]), 2, True, 0))
    firsts = []
    for step in range(500):
        table, row = rounds.stack(np.arange(6), np.full(6, step))
        firsts.append(table.fragment[table.first[row]])
    assert abs(np.mean(firsts) - 0.5) < 5 * 0.5 / 3000**0.5


@pytest.mark.parametrize("num_fragments", [1, 3, 7, 11])
def test_fragments_are_cut_and_joined(num_fragments):
    rows = torch.arange(33.0).view(3, 11)
    fragments = Fragments(11, num_fragments, 5)
    assert sorted(set(fragments.columns.ravel().tolist())) == list(range(11))
    assert fragments.lengths.sum() == 11
    assert np.ptp(fragments.lengths) <= 1
    cut = fragments.cut(rows)
    assert cut.shape == (3 * num_fragments, fragments.lengths.max())
    assert torch.equal(fragments.join(cut), rows)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("algorithm.num_fragments=0",), r"algorithm\.num_fragments=0: expected"),
        (("algorithm.out_degree=0",), r"algorithm\.out_degree=0: expected"),
        (("timing=none",), r"timing=none: algorithm=divshare needs to know how long steps take"),
    ],
)
def test_bad_input_is_one_line_before_the_first_step(composed, overrides, message):
    settings = ("timing=constant", "graph=ring", *CUT, *overrides)
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        Simulation.build(composed(*ROOT, *QUADRATIC, *settings)).init()
    assert "\n" not in str(caught.value)
