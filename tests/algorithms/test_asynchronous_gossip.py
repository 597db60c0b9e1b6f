"""Stale gossip and AD-PSGD against plain event loops; stale gossip is D-SGD where all nodes are equally fast."""

import numpy as np
import pytest
import torch

from simulator.simulation import Simulation
from simulator.timing.pairs import PairSchedule
from tests.algorithms.asynchronous_oracle import Objectives, adpsgd, stale_gossip
from tests.timing.test_pairs import exchange_of

ROOT = ("num_threads=1", "dtype=float64", "compute=vmap", "figures=false")
EQUAL = ("timing=constant", "timing.latency_s=0", "timing.bandwidth_bytes_per_s=null")
TIMINGS = {
    "lognormal": ("timing=lognormal", "timing.sigma=0.7", "timing.node_sigma=0.4", "timing.latency_s=0.03"),
    "two_speed": ("timing=two_speed", "timing.latency_s=0.1", "timing.latency_sigma=1"),
}
LIMITED = ("timing.bandwidth_bytes_per_s=9e3", "timing.bandwidth_sigma=0.5")
QUADRATIC = ("problem=quadratic", "problem.dim=4", "problem.noise=0.3", "num_nodes=7", "algorithm.lr=0.05")
ORDERS = ("adapt_then_combine", "combine_and_adapt")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("graph", "num_nodes"), [("ring", 32), ("ring", 5), ("exponential", 9)])
def test_equal_clocks_give_the_bits_of_dsgd(composed, graph, num_nodes, order):
    words = ("dataset=digits", "model=logistic_regression", f"graph={graph}", f"num_nodes={num_nodes}")
    words = (*ROOT, *words, *EQUAL, "problem.weight_decay=0.01")
    plain = Simulation.build(composed(*words, "algorithm=dsgd", f"algorithm.order={order}"))
    free = Simulation.build(composed(*words, "algorithm=stale_gossip", f"algorithm.order={order}"))
    states = [made.run(made.init(), 0, 12) for made in (plain, free)]
    numbers, others = (made.evaluate(state, 12).numbers for made, state in zip((plain, free), states, strict=True))
    assert torch.equal(plain.estimate(states[0]), free.estimate(states[1]))
    assert others.pop("staleness/mean") == others.pop("staleness/max") == 0.0
    for name in ("time/sim_s", "time/sim_mean_s"):
        assert others.pop(name) == pytest.approx(numbers.pop(name), rel=1e-12)
    # The gradients of the events in progress may have been computed ahead.
    assert numbers["oracle/gradients"] <= others.pop("oracle/gradients") <= numbers.pop("oracle/gradients") + 1
    assert numbers.pop("oracle/samples") <= others.pop("oracle/samples")
    assert others == numbers


def test_the_default_is_that_of_dsgd(composed):
    orders = {composed(f"algorithm={name}")["algorithm"]["order"] for name in ("dsgd", "stale_gossip")}
    assert orders == {"adapt_then_combine"}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("graph", ["ring", "exponential"])
@pytest.mark.parametrize("timing", TIMINGS)
def test_stale_gossip_is_a_plain_event_loop(composed, timing, graph, order):
    words = (*ROOT, *QUADRATIC, *TIMINGS[timing], *LIMITED, "algorithm=stale_gossip", f"graph={graph}")
    made = Simulation.build(composed(*words, f"algorithm.order={order}"))
    state = made.run(made.init(), 0, 20)
    parts, objectives = made.components, Objectives(made.problem)
    x = stale_gossip(parts.timing, parts.graph, objectives, 20 * 7, 32, 0.05, order)
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
    assert made.network.events.staleness_max > 1


@pytest.mark.parametrize("graph", ["ring", "random_matching", "star"])
@pytest.mark.parametrize("timing", TIMINGS)
def test_adpsgd_is_a_plain_event_loop(composed, timing, graph):
    words = (*ROOT, *QUADRATIC, *TIMINGS[timing], "algorithm=adpsgd", f"graph={graph}")
    made = Simulation.build(composed(*words, "timing.bandwidth_bytes_per_s=null"))
    state = made.run(made.init(), 0, 20)
    parts = made.components
    schedule = PairSchedule(parts.timing, parts.graph, 32)

    def partner_of(node, step):
        return int(schedule.partners(np.array([node]), np.array([step]))[0])

    x, ages = adpsgd(parts.timing, partner_of, exchange_of(parts.timing), Objectives(made.problem), 20 * 7, 0.05)
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-10)
    assert made.network.events.staleness_counts.tolist() == np.bincount(ages).tolist()
    evaluated = made.evaluate(state, 20).numbers
    assert 0 < evaluated["time/idle_share"] < 1
    met = [i != partner_of(i, k) for i in range(7) for k in range(made.network.events.num_steps[i])]
    assert evaluated["comm/messages"] == 2 * sum(met)
    assert evaluated["comm/bytes"] == 2 * 32 * sum(met)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("algorithm=adpsgd", "graph=exponential"),
            r"algorithm=adpsgd needs neighbours that meet",
        ),
        (("algorithm=adpsgd", "timing=none"), r"timing=none: algorithm=adpsgd needs to know how long steps take"),
        (("algorithm=adpsgd", *EQUAL, "timing.step_s=0"), r"timing: local step 0 of node 0 takes 0 s"),
        (("algorithm=stale_gossip", "graph=random_matching"), r"algorithm=stale_gossip needs a static graph"),
        (
            ("algorithm=stale_gossip", "graph=random_directed"),
            r"algorithm=stale_gossip needs doubly stochastic",
        ),
        (("algorithm=stale_gossip", "algorithm.order=both"), r"algorithm\.order='both': expected"),
    ],
)
def test_bad_input_is_one_line_before_the_first_step(composed, overrides, message):
    settings = ("timing=constant", "graph=ring", "problem=quadratic", "num_nodes=7")
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        Simulation.build(composed(*ROOT, *settings, *overrides)).init()
    assert "\n" not in str(caught.value)
