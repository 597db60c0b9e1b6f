"""Which rank prints why a job failed, when ranks report late."""

import threading
import time

import pytest
import torch.distributed as dist

from simulator import processes
from simulator.errors import LostProcessError, RunError
from simulator.processes import Launch
from simulator.world import World

NUM_RANKS = 3


class GoneStore(dist.Store):
    """A store whose host has died."""

    def set(self, key, value):
        raise RuntimeError("Broken pipe")

    def compare_set(self, key, expected, desired):
        raise RuntimeError("Broken pipe")


def fails_after(seconds, peer):
    def job(_store):
        time.sleep(seconds)
        raise LostProcessError(f"lost rank {peer}", peer)

    return job


def run_together(jobs, stores):
    """Runs a job on every rank that has one, each in a thread of its own; returns the launches and errors by rank."""
    launches = {rank: Launch(World(rank, NUM_RANKS, rank, NUM_RANKS), stores[rank]) for rank in jobs}
    errors = {}

    def run(rank):
        launches[rank].announce("a job") if rank == 0 else launches[rank].next_message()
        try:
            launches[rank].run(jobs[rank])
        except RunError as error:
            errors[rank] = str(error)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return launches, errors


def shared_store(jobs):
    return dict.fromkeys(jobs, dist.HashStore())


@pytest.mark.parametrize("slow_rank", [0, 1])
def test_exactly_one_rank_speaks_however_slow_another_is(monkeypatch, slow_rank):
    # Rank 2 is dead. One of the others notices so late that the first has given it up.
    monkeypatch.setattr(processes, "_REPORT_WAIT_S", 0.1)
    jobs = {rank: fails_after(0.6 if rank == slow_rank else 0.0, 2) for rank in (0, 1)}
    launches, errors = run_together(jobs, shared_store(jobs))
    assert errors == dict.fromkeys(jobs, "rank 2 died: lost rank 2")
    assert [rank for rank in jobs if launches[rank].speaks] == [1 - slow_rank]
    # Rank 1 has given rank 0 up and ended, or rank 0 has given rank 1 up: there will be no further job.
    assert launches[0].lost == {1, 2}


@pytest.mark.slow
def test_rank_0_may_take_twice_as_long(monkeypatch):
    monkeypatch.setattr(processes, "_REPORT_WAIT_S", 1.0)
    jobs = {0: fails_after(1.2, 2), 1: fails_after(0.0, 2)}
    launches, errors = run_together(jobs, shared_store(jobs))
    assert errors == dict.fromkeys(jobs, "rank 2 died: lost rank 2")
    assert [launches[rank].speaks for rank in jobs] == [True, False]
    assert launches[0].lost == launches[1].lost == {2}


def test_rank_0_speaks_when_all_are_in_time():
    jobs = dict.fromkeys(range(NUM_RANKS), fails_after(0.0, -1))
    launches, _ = run_together(jobs, shared_store(jobs))
    assert [launches[rank].speaks for rank in jobs] == [True, False, False]
    assert not any(launches[rank].lost for rank in jobs)


def test_the_lowest_rank_left_speaks_when_the_store_went_down_with_rank_0():
    jobs = {rank: fails_after(0.0, 0) for rank in (1, 2)}
    launches = {rank: Launch(World(rank, NUM_RANKS, rank, NUM_RANKS), GoneStore()) for rank in jobs}
    for rank, launch in launches.items():
        with pytest.raises(RunError, match="rank 0 died: lost rank 0"):
            launch.run(jobs[rank])
    assert [launches[rank].speaks for rank in jobs] == [True, False]
