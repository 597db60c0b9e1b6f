"""Waits that nobody ends: who is told what, and when."""

import threading
import time

import pytest

from simulator.errors import LostProcessError, SilentProcessError
from simulator.watchdog import Watchdog

TIMEOUT_S = 0.3
POLL_S = 0.02
LATE_S = 5.0  # for a busy machine


class FakeWork:
    """An operation on a device; remembers which threads asked for it."""

    def __init__(self, *, completed=False):
        self.completed = completed
        self.askers = set()

    def is_completed(self):
        self.askers.add(threading.current_thread())
        return self.completed


class Situation:
    """A watchdog whose abort and last resort are noted, with the seconds at which they happened."""

    def __init__(self, *, timeout_s=TIMEOUT_S, abort=lambda: None, grace_s=10.0, **options):
        self.began = time.monotonic()
        self.aborted, self.gave_up = threading.Event(), threading.Event()
        self.told = []

        def noted_abort():
            self.aborted.set()
            abort()

        def give_up(error):
            self.told.append((error, self.seconds))
            self.gave_up.set()

        self.watchdog = Watchdog(
            timeout_s, abort=noted_abort, give_up=give_up, grace_s=grace_s, poll_s=POLL_S, **options
        )

    @property
    def seconds(self):
        return time.monotonic() - self.began


@pytest.fixture
def situation():
    made = []

    def make(**options):
        made.append(Situation(**options))
        return made[-1]

    yield make
    for each in made:
        each.watchdog.close()


def edge():
    return SilentProcessError("round 7: rank 0 waited for edge 3 -> 1", 2)


def read(watchdog, released, error=None):
    """Reads a value of the device: that blocks until the abort, and what is read is worthless or an error."""
    with watchdog.calling(edge):
        assert released.wait(LATE_S)
        if error is not None:
            raise error


def test_a_work_that_never_runs_aborts_the_group_and_the_next_check_names_the_edge(situation):
    now = situation()
    now.watchdog.follow(FakeWork(), edge)
    assert now.aborted.wait(LATE_S)
    assert TIMEOUT_S <= now.seconds < TIMEOUT_S + LATE_S
    with pytest.raises(SilentProcessError, match=r"round 7: rank 0 waited for edge 3 -> 1"):
        now.watchdog.check()
    assert not now.gave_up.wait(10 * POLL_S)


def test_the_host_that_an_abort_lets_go_on_raises_the_error(situation):
    released = threading.Event()
    now = situation(abort=released.set)
    with pytest.raises(SilentProcessError, match="edge 3 -> 1"):
        read(now.watchdog, released)
    assert TIMEOUT_S <= now.seconds < TIMEOUT_S + LATE_S


def test_the_errors_of_an_aborted_call_are_not_taken_for_the_cause(situation):
    released = threading.Event()
    now = situation(abort=released.set)
    with pytest.raises(SilentProcessError, match="edge 3 -> 1") as caught:
        read(now.watchdog, released, RuntimeError("NCCL communicator was aborted"))
    assert str(caught.value.__cause__) == "NCCL communicator was aborted"


@pytest.mark.parametrize("hangs", [False, True])
def test_a_host_that_does_not_come_back_is_given_up(situation, hangs):
    never = threading.Event()
    now = situation(abort=(lambda: never.wait(LATE_S)) if hangs else (lambda: None), grace_s=0.2)
    now.watchdog.follow(FakeWork(), edge)
    assert now.gave_up.wait(LATE_S)
    [(error, seconds)] = now.told
    assert str(error) == "round 7: rank 0 waited for edge 3 -> 1"
    assert TIMEOUT_S + 0.2 <= seconds < TIMEOUT_S + 0.2 + LATE_S
    never.set()


def test_works_that_run_in_time_are_forgotten_by_the_thread_that_posts(situation):
    timeout_s = 1.5
    now = situation(timeout_s=timeout_s)
    works = [FakeWork(completed=True) for _ in range(50)]
    for work in works:
        now.watchdog.follow(work, edge)
    assert sum(not work.askers for work in works) == 1  # the last
    for work in works[:-1]:
        assert work.askers == {threading.current_thread()}
    # The other thread asks only for what is overdue.
    time.sleep(timeout_s + 10 * POLL_S)
    now.watchdog.check()
    assert len(works[-1].askers) == 1
    assert threading.current_thread() not in works[-1].askers


def test_of_several_waits_the_longest_is_named(situation):
    now = situation()
    now.watchdog.follow(FakeWork(), edge)
    time.sleep(3 * POLL_S)
    now.watchdog.follow(FakeWork(), lambda: SilentProcessError("a later one", 1))
    assert now.aborted.wait(LATE_S)
    with pytest.raises(SilentProcessError, match="edge 3 -> 1"):
        now.watchdog.check()


def test_what_other_processes_report_ends_waits_before_their_time(situation):
    released = threading.Event()
    now = situation(timeout_s=60.0, abort=released.set, heard=lambda: LostProcessError("rank 2 failed", 2))
    with pytest.raises(LostProcessError, match="rank 2 failed"):
        read(now.watchdog, released)
    assert now.seconds < LATE_S


def test_a_report_that_blocks_does_not_stop_the_clock(situation):
    now = situation(heard=lambda: time.sleep(LATE_S))
    now.watchdog.follow(FakeWork(), edge)
    assert now.aborted.wait(LATE_S / 2)


def test_a_group_that_failed_by_itself_is_noticed_at_the_next_check(situation):
    broken = []
    now = situation(broken=lambda: broken[0] if broken else None)
    now.watchdog.check()
    broken.append(LostProcessError("NCCL: remote error", -1))
    with pytest.raises(LostProcessError, match="NCCL: remote error"):
        now.watchdog.check()


def test_an_edge_that_cannot_be_described_still_ends_the_wait(situation):
    now = situation()

    def fails():
        raise KeyError("no such edge")

    now.watchdog.follow(FakeWork(), fails)
    assert now.aborted.wait(LATE_S)
    with pytest.raises(KeyError, match="no such edge"):
        now.watchdog.check()
