"""FedAsync and FedBuff against a plain event loop."""

import numpy as np
import pytest
import torch

from simulator.simulation import Simulation
from tests.algorithms.asynchronous_oracle import Objectives, async_fedavg

ROOT = ("num_threads=1", "dtype=float64", "figures=false", "algorithm=async_fedavg", "graph=hub", "num_nodes=7")
QUADRATIC = ("problem=quadratic", "problem.dim=4", "problem.noise=0.3", "algorithm.lr=0.05")
TIMINGS = {
    "lognormal": ("timing=lognormal", "timing.sigma=0.7", "timing.node_sigma=0.4", "timing.latency_s=0.03"),
    "two_speed": ("timing=two_speed", "timing.latency_s=0.1", "timing.latency_sigma=1"),
}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize(("aggregation", "buffer_size", "local_steps"), [("fedasync", 0, 1), ("fedbuff", 3, 2)])
def test_answers_are_those_of_a_plain_event_loop(composed, timing, aggregation, buffer_size, local_steps):
    words = (*ROOT, *QUADRATIC, *TIMINGS[timing], f"algorithm.aggregation={aggregation}")
    words = (*words, f"algorithm.buffer_size={max(buffer_size, 1)}", f"algorithm.local_steps={local_steps}")
    made = Simulation.build(composed(*words, "timing.bandwidth_bytes_per_s=4e3"))
    state = made.run(made.init(), 0, 20)
    links = made.components.timing.links

    def trip_s(i):
        hub, client = np.array([0]), np.array([i])
        return links.latency_s(hub, client)[0] + links.latency_s(client, hub)[0] + 2 * 32 / 4e3

    x, ages = async_fedavg(
        *(made.components.timing, trip_s, Objectives(made.problem), 20 * 7),
        lr=0.05,
        local_steps=local_steps,
        mixing=0.5,
        decay=0.5,
        buffer_size=buffer_size,
    )
    np.testing.assert_allclose(state["params"][0].numpy(), x, rtol=0, atol=1e-10)
    assert made.network.events.staleness_counts.tolist() == np.bincount(ages).tolist()
    np.testing.assert_array_equal(made.estimate(state).numpy(), np.broadcast_to(state["params"][0].numpy(), (7, 4)))
    numbers = made.evaluate(state, 20).numbers
    assert numbers["comm/messages"] == 2 * 20 * 7
    assert made.network.events.num_steps[0] == 0
    assert numbers["staleness/max"] > 1


@pytest.mark.parametrize("local_steps", [1, 3])
def test_a_buffer_of_all_answers_and_equal_clocks_are_fedavg(composed, local_steps):
    """To rounding: FedBuff adds the differences of the models, FedAvg takes their mean."""
    equal = ("timing=constant", "timing.latency_s=0", "timing.bandwidth_bytes_per_s=null", "problem.noise=0")
    words = (
        *ROOT,
        *QUADRATIC,
        *equal,
        "algorithm.aggregation=fedbuff",
        "algorithm.buffer_size=6",
        "algorithm.mixing=1",
    )
    free = Simulation.build(composed(*words, f"algorithm.local_steps={local_steps}"))
    words = (*ROOT[:3], *QUADRATIC, "problem.noise=0", "algorithm=fedavg", "algorithm.momentum=0", "num_nodes=6")
    plain = Simulation.build(composed(*words, f"algorithm.local_steps={local_steps}", "graph=fully_connected"))
    plain.problem.hessian.copy_(free.problem.hessian[1:])
    plain.problem.linear.copy_(free.problem.linear[1:])
    # 12 steps of 7 events each are 14 rounds of 6 clients; 5 steps end within a round.
    state = free.init()
    for first, last, rounds in ((0, 5, 5), (5, 12, 14)):
        state = free.run(state, first, last)
        expected = plain.estimate(plain.run(plain.init(), 0, rounds))
        torch.testing.assert_close(free.estimate(state), expected[:1].expand(7, -1), rtol=0, atol=1e-13)
        assert expected.norm() > 0.1
    assert free.network.events.staleness_max == 0


@pytest.mark.parametrize("aggregation", ["fedasync", "fedbuff"])
def test_answers_of_one_time_are_those_of_a_plain_event_loop(composed, aggregation):
    """Slow clients take five steps of a fast one, so answers often come at the same time."""
    words = (*ROOT, *QUADRATIC, "timing=two_speed", "timing.slow_share=0.4", "timing.step_s=0.25", "timing.latency_s=0")
    words = (*words, "timing.bandwidth_bytes_per_s=null", f"algorithm.aggregation={aggregation}")
    made = Simulation.build(composed(*words, "algorithm.buffer_size=2"))
    state = made.run(made.init(), 0, 20)
    x, ages = async_fedavg(
        *(made.components.timing, lambda i: 0.0, Objectives(made.problem), 20 * 7),
        lr=0.05,
        local_steps=1,
        mixing=0.5,
        decay=0.5,
        buffer_size=2 if aggregation == "fedbuff" else 0,
    )
    np.testing.assert_allclose(state["params"][0].numpy(), x, rtol=0, atol=1e-10)
    assert made.network.events.staleness_counts.tolist() == np.bincount(ages).tolist()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("graph=ring",), r"algorithm=async_fedavg needs a hub that loses no messages"),
        (("faults=message_loss",), r"algorithm=async_fedavg needs a hub that loses no messages"),
        (("timing=none",), r"timing=none: algorithm=async_fedavg needs to know how long steps take"),
        (("algorithm.mixing=0",), r"algorithm\.mixing=0.*expected a number in \(0, 1\]"),
        (("algorithm.aggregation=mean",), r"algorithm\.aggregation='mean': expected fedasync or fedbuff"),
    ],
)
def test_bad_input_is_one_line_before_the_first_step(composed, overrides, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Simulation.build(composed(*ROOT, *QUADRATIC, "timing=constant", *overrides)).init()
