"""Connecting by NCCL and letting go, with a fake of torch.distributed: there is no GPU."""

import os
import threading
import time
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from simulator import process_group as module
from simulator.devices import Compute
from simulator.errors import LostProcessError, SilentProcessError
from simulator.process_group import process_group
from simulator.world import World

CPU = torch.device("cpu")
LATE_S = 5.0


class Work:
    """A work that has run."""

    def wait(self, timeout=None):
        assert timeout is None
        return True


class FakeDistributed:
    """Notes what is called; a backend that aborts by one of several names, as versions of torch do."""

    def __init__(self, monkeypatch, *, abort_name="abort", tells_errors=True, abandons=True):
        self.calls, self.environment, self.bytes_sent = [], {}, []
        self.is_initialized = False
        self.error = "SUCCESS"
        self.backend = SimpleNamespace(**{abort_name: lambda: self.calls.append("abort")})
        if tells_errors:
            self.backend.get_error = lambda: SimpleNamespace(name=self.error)
        self.sends = True
        fakes = {
            "init_process_group": self.init,
            "destroy_process_group": lambda: self.forget("destroy"),
            "is_initialized": lambda: self.is_initialized,
            "all_reduce": self.sum,
            "P2POp": lambda op, tensor, peer: (op, tensor, peer),
            "batch_isend_irecv": self.batch,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(dist, name, fake)
        monkeypatch.setattr(dist, "group", SimpleNamespace(WORLD=SimpleNamespace(_get_backend=lambda _: self.backend)))
        if abandons:
            monkeypatch.setattr(dist.distributed_c10d, "_abort_process_group", lambda: self.forget("abandon"))
        else:
            monkeypatch.delattr(dist.distributed_c10d, "_abort_process_group")

    def init(self, backend, **options):
        self.calls.append(f"init {backend}")
        self.environment = dict(os.environ)
        self.options = options
        self.is_initialized = True

    def forget(self, name):
        self.calls.append(name)
        self.is_initialized = False

    def sum(self, tensor, *, async_op):
        assert async_op
        self.calls.append("all_reduce")
        return Work()

    def batch(self, operations):
        self.calls.append("batch")
        for op, tensor, peer in operations:
            if op is dist.irecv:
                tensor.fill_(peer if self.sends else 99)
            else:
                self.bytes_sent.append((peer, tensor.tolist()))
        return [Work()]


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "NCCL_ASYNC_ERROR_HANDLING"):
        monkeypatch.setenv(name, "")  # so that it is as it was after the test
        monkeypatch.delenv(name)


def group(store, rank=0, world_size=3, timeout_s=10.0):
    return process_group(World(rank, world_size, rank, world_size), store, Compute(CPU, "nccl", ""), timeout_s)


def run(store, error=None, **options):
    with group(store, **options):
        if error is not None:
            raise error


def test_connections_are_set_up_at_the_start_and_closed_at_the_end(monkeypatch):
    fake = FakeDistributed(monkeypatch)
    with group(dist.HashStore(), rank=1) as watchdog:
        assert fake.calls == ["init nccl", "all_reduce", "batch"]
        watchdog.check()
    # A byte for everybody but itself.
    assert fake.bytes_sent == [(0, [1]), (2, [1])]
    assert fake.calls[3:] == ["destroy"]
    assert fake.options["device_id"] == CPU
    # The group's own clock comes after ours.
    assert fake.options["timeout"].total_seconds() > 10.0 + 30.0


def test_a_wrong_first_byte_is_noticed(monkeypatch):
    fake = FakeDistributed(monkeypatch)
    fake.sends = False
    with pytest.raises(ConnectionError, match=r"rank 0 got the bytes \[99, 99\] from the ranks \[1, 2\]"):
        run(dist.HashStore())


@pytest.mark.parametrize("name", ["TORCH_NCCL_ASYNC_ERROR_HANDLING", "NCCL_ASYNC_ERROR_HANDLING"])
def test_what_the_user_wants_of_asynchronous_errors_holds(monkeypatch, name):
    fake = FakeDistributed(monkeypatch)
    run(dist.HashStore())
    assert fake.environment["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "2"
    monkeypatch.delenv("TORCH_NCCL_ASYNC_ERROR_HANDLING")
    monkeypatch.setenv(name, "1")
    run(dist.HashStore())
    assert {key: fake.environment[key] for key in fake.environment if key.endswith("ASYNC_ERROR_HANDLING")} == {
        name: "1"
    }


VERSIONS = {
    "rewritten": ({}, ["abort", "abandon"]),
    "legacy": ({"tells_errors": False}, ["abort", "abandon"]),
    "older": ({"abort_name": "_abort", "tells_errors": False, "abandons": False}, ["abort", "destroy"]),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_after_a_failure_the_group_is_aborted_and_the_others_hear_of_it(monkeypatch, version):
    options, expected = VERSIONS[version]
    fake, store = FakeDistributed(monkeypatch, **options), dist.HashStore()
    with pytest.raises(FloatingPointError, match="NaN"):
        run(store, FloatingPointError("NaN"))
    assert fake.calls[3:] == expected
    assert store.get("failed") == b"0"
    assert not fake.is_initialized


def test_after_an_agreed_stop_the_group_is_closed(monkeypatch):
    fake, store = FakeDistributed(monkeypatch), dist.HashStore()
    with pytest.raises(SystemExit) as stop:
        run(store, SystemExit(130))
    assert stop.value.code == 130
    assert fake.calls[3:] == ["destroy"]
    assert not store.check(["failed"])


def test_a_process_hears_that_another_one_failed(monkeypatch):
    FakeDistributed(monkeypatch)
    store = dist.HashStore()
    with pytest.raises(LostProcessError, match="rank 0 ended because rank 2 failed") as caught:
        wait_while(store, lambda: store.set("failed", "2"))
    assert caught.value.peer == 2


def test_an_error_that_nccl_notices_ends_the_waiting(monkeypatch):
    fake = FakeDistributed(monkeypatch)
    with pytest.raises(LostProcessError, match=r"rank 0 lost another process \(NCCL: remote error\)"):
        wait_while(dist.HashStore(), lambda: setattr(fake, "error", "REMOTE_ERROR"))
    assert fake.calls.count("abort") == 1


def wait_while(store, happens):
    """Waits on the device for a message that does not come, until something else happens."""
    with group(store, timeout_s=600.0) as watchdog:
        happens()
        deadline = time.monotonic() + LATE_S
        while watchdog.failure is None and time.monotonic() < deadline:
            time.sleep(0.02)
        watchdog.check()


def test_a_silent_process_at_the_first_contact(monkeypatch):
    fake = FakeDistributed(monkeypatch)
    aborted = threading.Event()
    fake.backend.abort = lambda: (fake.calls.append("abort"), aborted.set())

    def blocks(operations):
        assert aborted.wait(LATE_S)
        raise RuntimeError("NCCL communicator was aborted")

    monkeypatch.setattr(dist, "batch_isend_irecv", blocks)
    with pytest.raises(SilentProcessError, match=r"rank 0 waited 0\.3 s for all processes to exchange a first byte"):
        run(dist.HashStore(), timeout_s=0.3)
    assert fake.calls.count("abort") == 1  # two threads want it


def test_an_abort_that_hangs_does_not_keep_the_error_back(monkeypatch):
    fake = FakeDistributed(monkeypatch)
    monkeypatch.setattr(module, "_ABORT_WAIT_S", 0.2)
    never = threading.Event()
    fake.backend.abort = lambda: never.wait(LATE_S)
    with pytest.raises(FloatingPointError, match="NaN"):
        run(dist.HashStore(), FloatingPointError("NaN"))
    never.set()


@pytest.mark.parametrize("spoken", [False, True])
def test_a_process_that_gives_up_prints_its_line_unless_another_has(monkeypatch, capsys, spoken):
    codes = []
    monkeypatch.setattr(module.os, "_exit", codes.append)
    store = dist.HashStore()
    if spoken:
        store.set("gave up", "2")
    module._end_process(SilentProcessError("round 3: rank 0 waited", 1), store, 0)
    assert codes == [module.GAVE_UP_EXIT_CODE]
    assert capsys.readouterr().err == ("" if spoken else "hypergossip: round 3: rank 0 waited\n")


def test_one_process_and_gloo_have_no_watchdog(monkeypatch):
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    fake = FakeDistributed(monkeypatch)
    with process_group(World(), None, Compute(CPU, "nccl", ""), 1.0) as watchdog:
        assert watchdog is None
    assert not fake.calls
    with process_group(World(0, 2, 0, 2), dist.HashStore(), Compute(CPU, "gloo", ""), 1.0) as watchdog:
        assert watchdog is None
    assert fake.calls == ["init gloo", "destroy"]
    assert "GLOO_SOCKET_IFNAME" not in os.environ  # what this process starts may go another way
