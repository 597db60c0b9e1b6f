"""The clocks of real runs: against a discrete-event program, on several processes, resumed, and without a timing."""

import json

import numpy as np
import pytest
import torch

from simulator import config
from simulator.checkpoint import find
from simulator.graphs.ring import Ring
from simulator.job import prepare, run_job
from simulator.network.ledger import Links
from simulator.network.local_clocks import LocalClocks
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.processes import World
from simulator.simulation import Simulation
from simulator.timing.constant import Constant
from tests.timing.event_loops import synchronous

NUM_NODES = 6
NUM_STEPS = 12
SMALL = (
    *(f"num_nodes={NUM_NODES}", "dataset=synthetic_mixture", "dataset.num_train=30", "dataset.num_valid=10"),
    *("dataset.num_test=10", "partition=as_given", "model=logistic_regression", "problem.batch_size=4"),
    *("dtype=float64", "compute=vmap", "num_threads=1", "figures=false", "timeout_s=60"),
)
LINKS = ("timing.latency_s=0.02", "timing.latency_sigma=0.5", "timing.bandwidth_bytes_per_s=20000")
TIMINGS = {
    "constant": ("timing.step_s=0.1",),
    "two_speed": ("timing.step_s=0.1", "timing.slow_share=0.34", "timing.bandwidth_sigma=0.5"),
    "lognormal": ("timing.step_s=0.1", "timing.sigma=0.6", "timing.node_sigma=0.3"),
    "trace": (),
}
# Name, overrides, rounds per step.
ALGORITHMS = {
    "sgp": (("algorithm=sgp", "graph=random_directed"), 1),
    "two_rounds": (("algorithm=diging", "algorithm.order=adapt_then_combine", "graph=ring"), 2),
    "fedavg": (("algorithm=fedavg", "graph=hub"), 2),
}


def timed(composed, name, timing, folder, *further):
    overrides = [*SMALL, *ALGORITHMS[name][0], f"num_steps={NUM_STEPS}", f"timing={timing}", *TIMINGS[timing]]
    if timing == "trace":
        path = folder / "trace.csv"
        path.write_text("node,start_s,step_s\n0,0,0.1\n0,0.5,0.4\n0,1.5,0.05\n1,0,0.2\n2,0,0.1\n")
        overrides.append(f"timing.path={path}")
    return composed(*overrides, *LINKS, *further)


def payload_of(name, simulation):
    return 8 * (simulation.problem.num_params + (name == "sgp"))


def rounds_of(name, graph):
    """(source, target) pairs of every round of a run."""
    per_step = ALGORITHMS[name][1]
    schedule = [r // 2 if name == "two_rounds" else r for r in range(NUM_STEPS * per_step)]
    edges = [graph.edges(r) for r in schedule]
    return [[(j, i) for j, i in zip(e.source.tolist(), e.target.tolist(), strict=True) if i != j] for e in edges]


@pytest.mark.parametrize("timing", TIMINGS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_run_takes_the_time_of_a_discrete_event_program(composed, name, timing, tmp_path):
    simulation = Simulation.build(timed(composed, name, timing, tmp_path))
    simulation.run(simulation.init(), 0, NUM_STEPS)
    rounds, payload = rounds_of(name, simulation.components.graph), payload_of(name, simulation)
    assert payload * sum(map(len, rounds)) == simulation.network.ledger.bytes
    end, idle = synchronous(simulation.components.timing, rounds, ALGORITHMS[name][1], payload)
    times = simulation.network.clocks.times
    np.testing.assert_allclose(times.now_s, end, rtol=0, atol=1e-9)
    np.testing.assert_allclose(times.idle_s, idle, rtol=0, atol=1e-9)
    found = simulation.evaluate(simulation.init(), 0).numbers
    assert found["time/sim_s"] == pytest.approx(end.max(), abs=1e-9)
    assert found["time/sim_mean_s"] == pytest.approx(end.mean(), abs=1e-9)
    assert found["time/idle_share"] == pytest.approx(idle.sum() / end.sum(), abs=1e-9)
    assert 0 < found["time/idle_share"] < 1


def test_steps_without_a_round_take_the_time_of_computing(composed, tmp_path):
    simulation = Simulation.build(timed(composed, "sgp", "constant", tmp_path, "graph=self_loop"))
    simulation.run(simulation.init(), 0, 5)
    times = simulation.network.clocks.times
    np.testing.assert_allclose(times.now_s, 0.5, rtol=1e-12)
    assert times.idle_share == 0.0


def test_a_timing_changes_nothing_but_the_time(composed, tmp_path):
    plain = Simulation.build(composed(*SMALL, *ALGORITHMS["sgp"][0], f"num_steps={NUM_STEPS}"))
    with_clocks = Simulation.build(timed(composed, "sgp", "lognormal", tmp_path))
    states = [made.run(made.init(), 0, NUM_STEPS) for made in (plain, with_clocks)]
    assert plain.network.clocks is None
    for key, rows in states[0].items():
        assert torch.equal(rows, states[1][key])
    numbers, timed_numbers = (
        made.evaluate(state, NUM_STEPS).numbers for made, state in zip((plain, with_clocks), states, strict=True)
    )
    assert numbers["time/sim_s"] == plain.network.ledger.link_time_s > 0
    assert set(timed_numbers) - set(numbers) == {"time/sim_mean_s", "time/idle_share"}
    kept = [name for name in numbers if name != "time/sim_s"]
    assert [numbers[name] for name in kept] == [timed_numbers[name] for name in kept]


def run_in(folder, settings, *overrides):
    folder.mkdir(exist_ok=True)
    run_job(prepare(settings, overrides, folder, []), World(), None)
    return json.loads((folder / "summary.json").read_text())


def test_a_resumed_run_goes_on_with_its_clocks(composed, tmp_path):
    whole = run_in(tmp_path / "whole", timed(composed, "sgp", "trace", tmp_path, "eval_every=4"))
    first = tmp_path / "first"
    shorter = run_in(first, timed(composed, "sgp", "trace", tmp_path, "eval_every=4", "num_steps=7"))
    assert find(first).meta["clocks"]["now_s"] == shorter["time/sim_s_per_node"]
    overrides = (f"resume={first}", f"num_steps={NUM_STEPS}")
    second = run_in(tmp_path / "second", composed(*overrides), *overrides)
    names = [name for name in whole if name.startswith("time/") and name != "time/wall_s"]
    assert len(names) == 5
    assert {name: second[name] for name in names} == {name: whole[name] for name in names}
    changed = (*overrides, "timing=constant")
    with pytest.raises(ValueError, match=r"timing=constant: a resumed run keeps timing"):
        run_in(tmp_path / "third", composed(*changed), *changed)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("timing=constant", "timing.step_s=-0.1"), r"timing\.step_s=-0\.1: expected a number of at least 0"),
        (("timing=two_speed", "timing.slow_factor=0"), r"timing\.slow_factor=0: expected a positive number"),
        (("timing=lognormal", "timing.latency_s=-1"), r"timing\.latency_s=-1: expected a number of at least 0"),
        (("timing=constant", "timing.bandwidth_bytes_per_s=0"), r"timing\.bandwidth_bytes_per_s=0: expected"),
        (("timing=constant", "timing.step_s=soon"), r"timing\.step_s=soon: expected a number"),
        (("timing=constant", "+timing.sigma=1"), r"timing\.sigma is no setting of Constant"),
        (("timing=constant", "timing.num_nodes=3"), r"timing\.num_nodes=3: expected num_nodes=6"),
        (("timing=trace", "timing.path={0}/none.csv"), r"timing\.path='.*none\.csv': there is no such file"),
        (("timing=trace", "timing.path={0}/lacks.csv"), r"timing\.path='.*lacks\.csv': node 1 is missing"),
        (("timing=trace", "timing.path={0}/back.csv"), r"timing\.path='.*back\.csv': line 4: node 0 runs backwards"),
        (("timing=trace", "timing.path={0}/minus.csv"), r"timing\.path='.*minus\.csv': line 2: step_s=-1: expected"),
        (("timing=constant", "timing.links_path={0}/none.csv"), r"timing\.links_path='.*none\.csv': there is no such"),
    ],
)
def test_bad_input_is_one_line_before_the_first_step(composed, overrides, message, tmp_path):
    lines = {"lacks": "0,0,1\n2,0,1", "back": "0,0,1\n0,3,1\n0,2,1", "minus": "0,0,-1"}
    for name, content in lines.items():
        (tmp_path / f"{name}.csv").write_text(f"node,k,step_s\n{content}\n")
    settings = composed(*SMALL, *(override.format(tmp_path) for override in overrides))
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        config.check(settings, config.build(settings), 1)
    assert "\n" not in str(caught.value)


def test_what_takes_no_time():
    """Messages that are not counted, collectives for metrics, and copies of the nodes."""
    timing = Constant(num_nodes=4, step_s=0.5, latency_s=0.25)
    network = Network(Ring(num_nodes=4), Placement(4), torch.device("cpu"), timing=timing)
    rows = (torch.zeros(4, 3),)
    with network.uncounted():
        network.mix(rows, 0)
    network.gather(rows[0])
    with network.replicate([0, 1]) as copies:
        copies.mix((torch.zeros(8, 3),), 0)
    assert network.clocks.times.now_s.tolist() == [0.0] * 4
    network.over(Ring(num_nodes=4)).mix(rows, 0)
    assert network.clocks.times.now_s.tolist() == [0.25] * 4
    network.begin_step(0)
    assert network.clocks.times.now_s.tolist() == [0.75] * 4


def test_messages_by_edge_are_timed_in_any_order_of_the_edges():
    timing = Constant(num_nodes=3, step_s=0.0, latency_s=1.0, bandwidth_bytes_per_s=10.0)
    network = Network(Ring(num_nodes=3), Placement(3), torch.device("cpu"), timing=timing)
    # Edges that leave, by (source, target): one row each, but two from node 0 to node 2 and none from node 2 to node 1.
    counts = np.array([1, 2, 1, 1, 1, 0])
    rows = torch.zeros(6, 10, dtype=torch.uint8)
    network.deliver_many(rows, counts, 0)
    by_hand = LocalClocks(timing)
    by_hand.round(network.link_plan(0).links, 8)
    sizes = dict(zip([(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)], 10 * counts, strict=True))
    codes = network.link_plan(0).links.codes.tolist()
    by_hand.round_each(network.link_plan(0).links, np.array([sizes[divmod(code, 3)] for code in codes]))
    assert network.clocks.state_dict() == by_hand.state_dict()


def test_lengths_follow_the_order_of_the_edges():
    timing = Constant(num_nodes=3, step_s=0.0, latency_s=1.0, bandwidth_bytes_per_s=10.0)
    clocks = LocalClocks(timing)
    # Node 1 sends 10 bytes to node 0. Node 2 sends 20 bytes to node 0, which have left after 2 s, then 10 to node 1.
    links = Links.build(np.array([1, 2, 0, 2, 0, 1]), np.array([0, 0, 1, 1, 2, 2]), 3)
    clocks.round_each(links, np.array([10, 20, 0, 10, 0, 0]))
    # The message from node 1 arrives after 2 s; the one from node 2 occupies the downlink for 2 s after it.
    assert clocks.times.now_s.tolist() == [4.0, 4.0, 0.0]
