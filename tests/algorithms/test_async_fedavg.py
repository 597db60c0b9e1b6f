"""FedAsync and FedBuff against a plain event loop."""

import numpy as np
import pytest

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
