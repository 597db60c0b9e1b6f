"""The benchmark of asynchronous events: their schedules, and their node-steps against those of synchronous rounds."""

import time
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from scripts.benchmark_contenders import MODELS, AsHeld, RandomImages
from scripts.benchmark_measuring import Candidate, Effort, Table, measure, rate
from simulator import config
from simulator.graphs.random_regular import RandomRegular
from simulator.simulation import Simulation
from simulator.timing.lognormal import Lognormal
from simulator.timing.messages import MessageSchedule
from simulator.timing.pairs import PairSchedule
from simulator.timing.rounds import Rounds

ALGORITHMS = ("sgp", "async_push_sum", "stale_gossip", "divshare", "adpsgd")
NUM_NODES, PAYLOAD = 64, 400_000
TIMING = ("timing=lognormal", "timing.sigma=0.5", "timing.latency_s=0.001")


def asynchronous(table: Table, effort: Effort, threads: int) -> None:
    """Events a second of the schedules, node-steps a second of the algorithms, and a run of 1,000 nodes."""
    table.section("Asynchronous events: 64 nodes of lognormal speed (sigma 0.5), random regular graph of degree 4")
    _schedules(table, effort)
    runs = {name: stepper(name, MODELS["MLP"], NUM_NODES) for name in ALGORITHMS}
    times = measure(runs, effort, multiple=4)
    for name in ALGORITHMS:
        share = times.speedup(name, "sgp")
        is_free = name != "sgp"
        measured = f"{rate(NUM_NODES / times.median(name))} node-steps/s, {share:.2f}x of sgp"
        table.line(f"MLP 784-128-10, {name}", measured, ">= 0.5x" if is_free else "", share >= 0.5 if is_free else None)
    if effort.quick:
        return
    run = stepper("async_push_sum", MODELS["logistic regression"], 1000)
    run(20)
    started = time.perf_counter()
    run(100)
    seconds = 10 * (time.perf_counter() - started)
    what = "logistic regression, 1,000 nodes, 1,000 local steps each"
    table.line(what, f"{seconds:.0f} s, from 100 of the steps", "<= 60 s", seconds <= 60)


def _schedules(table: Table, effort: Effort) -> None:
    timing = Lognormal(num_nodes=NUM_NODES, step_s=0.05, sigma=0.5, latency_s=0.001)
    graph = RandomRegular(num_nodes=NUM_NODES, degree=4, redraw=False, weights="metropolis")
    num_events = NUM_NODES * (300 if effort.quick else 5000)
    schedules: dict[str, MessageSchedule | PairSchedule] = {
        "messages, taken in at the start": MessageSchedule(
            timing, Rounds(graph, timing.links, PAYLOAD), takes_in="start"
        ),
        "messages, taken in at the end": MessageSchedule(timing, Rounds(graph, timing.links, PAYLOAD), takes_in="end"),
        "meetings": PairSchedule(timing, graph, PAYLOAD),
    }
    for name, schedule in schedules.items():
        started = time.process_time()
        num_waves = sum(1 for _ in schedule.waves(until_events=num_events))
        speed = num_events / (time.process_time() - started)
        measured = f"{rate(speed)} events/s of processor time, {num_events / num_waves:.0f} events a wave"
        table.line(f"schedule: {name}", measured, ">= 200,000", speed >= 200_000)


def stepper(algorithm: str, model: Callable[..., nn.Module], num_nodes: int) -> Candidate:
    """Takes steps of an algorithm."""
    words = [f"algorithm={algorithm}", f"num_nodes={num_nodes}", "graph=random_regular", "device=cpu", *TIMING]
    settings = config.compose([*words, "problem.drop_last=true", "problem.weight_decay=0.0", "compute=batched"])
    data = RandomImages(num_nodes)
    components = replace(config.build(settings), dataset=data, partition=AsHeld(), build_model=model)
    simulation = Simulation.build(settings, components=components)
    state, done = simulation.init(), 0

    def run(steps: int) -> None:
        nonlocal state, done
        state = simulation.run(state, done, done + steps)
        done += steps

    return run
