"""The process group of one job: connecting the processes, and letting go of them after success or failure.

On NCCL a group that has failed is aborted, because destroying it would wait for messages that never come.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from simulator.devices import Compute
from simulator.errors import LostProcessError, SilentProcessError, describe_error
from simulator.watchdog import Watchdog
from simulator.world import World

if TYPE_CHECKING:
    import torch
    from torch._C._distributed_c10d import Store

GAVE_UP_EXIT_CODE = 70
"""Exit status of a process that ended itself, with its line printed, because an aborted group did not let it go on."""

_ASYNC_ERRORS = ("TORCH_NCCL_ASYNC_ERROR_HANDLING", "NCCL_ASYNC_ERROR_HANDLING")
_CLEAN_UP_ONLY = "2"
_FAILED = "failed"
_SPEAKER = "gave up"
# Longer than our watchdog and all that follows it take, so that the group's own one comes only after them.
_GROUP_MARGIN_S = 60.0
_ABORT_WAIT_S = 10.0
_CLAIM_WAIT_S = 2.0
_SIOCGIFADDR = 0x8915


@contextlib.contextmanager
def process_group(
    world: World, store: "Store | None", compute: Compute, timeout_s: float
) -> "Iterator[Watchdog | None]":
    """Creates the process group of one job, and ends it with the block, also after an error.

    Yields:
        What watches the waits of this process on NCCL; None with gloo, where every wait has a timeout of its own, and
        for a single process.

    Raises:
        ConnectionError: when other ranks do not connect.
        SilentProcessError: when others do not answer within ``timeout_s`` while connections are set up, with NCCL.
    """
    import torch

    if compute.device.type == "cuda":
        torch.cuda.set_device(compute.device)
    if world.world_size == 1 or store is None:
        yield None
    elif compute.backend == "nccl":
        with _nccl_group(world, store, compute.device, timeout_s) as watchdog:
            yield watchdog
    else:
        with _gloo_group(world, store, compute.backend, timeout_s):
            yield None


@contextlib.contextmanager
def _gloo_group(world: World, store: "Store", backend: str, timeout_s: float) -> Iterator[None]:
    import torch.distributed as dist

    with _gloo_interface(world):
        _connect(world, store, backend, timeout_s)
    try:
        yield
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def _gloo_interface(world: World) -> Iterator[None]:
    """Inside the block gloo connects through the interface that leads to the other processes, if the user names none.

    The choice is not left behind, because programs that this process starts may have other ways to go.
    """
    name, interface = "GLOO_SOCKET_IFNAME", None
    if sys.platform == "linux" and name not in os.environ:
        interface = "lo" if world.is_one_machine else interface_towards(os.environ.get("MASTER_ADDR", ""))
    if interface is None:
        yield
        return
    os.environ[name] = interface
    try:
        yield
    finally:
        os.environ.pop(name, None)


def interface_towards(host: str) -> str | None:
    """The network interface from which packets to ``host`` leave, or that has its address; None when it is not known.

    Otherwise gloo takes the interface that the name of this machine leads to, which is often the loopback one.
    """
    import fcntl
    import socket
    import struct

    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # chooses a route and sends nothing
        own = socket.inet_aton(probe.getsockname()[0])
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            with contextlib.suppress(OSError):  # an interface without an address
                if fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24] == own:
                    return name
    return None


@contextlib.contextmanager
def _nccl_group(world: World, store: "Store", device: "torch.device", timeout_s: float) -> Iterator[Watchdog]:
    import torch.distributed as dist

    if not any(name in os.environ for name in _ASYNC_ERRORS):
        # By default the process is killed a second after a timeout, before it can say what it waited for.
        os.environ[_ASYNC_ERRORS[0]] = _CLEAN_UP_ONLY
    abort = _Abort(device)
    watchdog = Watchdog(
        timeout_s,
        abort=abort,
        give_up=lambda error: _end_process(error, store, world.rank),
        broken=lambda: _error_of_group(device, world.rank),
        heard=_listener(store, world.rank),
    )
    stopped: SystemExit | None = None
    try:
        with watchdog.calling(lambda: _silent(world, timeout_s, "to connect")):
            _connect(world, store, "nccl", timeout_s + _GROUP_MARGIN_S, device_id=device)
        with watchdog.calling(lambda: _silent(world, timeout_s, "to exchange a first byte")):
            _exchange_bytes(world, device)
        try:
            yield watchdog
        except SystemExit as error:
            stopped = error  # all have agreed to stop, so nothing is pending
        with watchdog.calling(lambda: _silent(world, timeout_s, "to close their connections")):
            dist.destroy_process_group()
    except BaseException:
        with contextlib.suppress(RuntimeError):
            store.set(_FAILED, str(world.rank))
        _abandon(abort)
        raise
    finally:
        watchdog.close()
    if stopped is not None:
        raise stopped


def _connect(world: World, store: "Store", backend: str, timeout_s: float, **options: Any) -> None:
    import torch.distributed as dist

    try:
        dist.init_process_group(
            backend,
            store=store,
            rank=world.rank,
            world_size=world.world_size,
            timeout=timedelta(seconds=timeout_s),
            **options,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ConnectionError(f"rank {world.rank} could not connect to the other ranks ({reason})") from error


def _exchange_bytes(world: World, device: "torch.device") -> None:
    """Sends a byte from every process to every other, so that no connection has to be set up in a round.

    A communicator must have been entered by all before some of them exchange messages, which the sum sees to.
    """
    import torch
    import torch.distributed as dist

    works = [dist.all_reduce(torch.zeros(1, device=device), async_op=True)]
    others = [rank for rank in range(world.world_size) if rank != world.rank]
    sent = torch.full((1,), world.rank % 256, dtype=torch.uint8, device=device)
    received = torch.empty(len(others), dtype=torch.uint8, device=device)
    operations = [dist.P2POp(dist.irecv, received[i : i + 1], peer) for i, peer in enumerate(others)]
    operations += [dist.P2POp(dist.isend, sent, peer) for peer in others]
    works += dist.batch_isend_irecv(operations)
    for work in works:
        assert work is not None
        work.wait()
    # Reading waits until they have arrived.
    if received.tolist() != [rank % 256 for rank in others]:
        raise ConnectionError(f"rank {world.rank} got the bytes {received.tolist()} from the ranks {others}")


def _silent(world: World, timeout_s: float, what: str) -> SilentProcessError:
    return SilentProcessError(f"rank {world.rank} waited {timeout_s:g} s for all processes {what}", -1)


def _listener(store: "Store", rank: int) -> Callable[[], Exception | None]:
    """Asks whether another process has failed, on a connection of its own where the store can be cloned."""
    clone = getattr(store, "clone", None)
    own = store if clone is None else clone()

    def heard() -> Exception | None:
        try:
            if not own.check([_FAILED]):
                return None
            peer = int(own.get(_FAILED))
        except RuntimeError:
            return LostProcessError(f"rank {rank} lost the store, which rank 0 or its launcher hosts", 0)
        return LostProcessError(f"rank {rank} ended because rank {peer} failed", peer)

    return heard


def _backend(device: "torch.device") -> Any:
    """The backend of the group for this device; None where there is none (yet)."""
    import torch.distributed as dist

    try:
        return None if dist.group.WORLD is None else dist.group.WORLD._get_backend(device)
    except RuntimeError:
        return None


def _error_of_group(device: "torch.device", rank: int) -> Exception | None:
    """What NCCL has noticed by itself, such as a connection that broke; older versions of torch do not tell."""
    ask = getattr(_backend(device), "get_error", None)
    if ask is None or (state := ask().name) == "SUCCESS":
        return None
    return LostProcessError(f"rank {rank} lost another process (NCCL: {state.lower().replace('_', ' ')})", -1)


class _Abort:
    """Ends all operations of the group that are pending on the device, at its first call; further calls wait for it."""

    def __init__(self, device: "torch.device") -> None:
        self._device = device
        self._lock = threading.Lock()
        self._is_done = False

    def __call__(self) -> None:
        with self._lock:
            if self._is_done:
                return
            backend = _backend(self._device)
            # Older versions of torch have only the second name.
            abort = getattr(backend, "abort", None) or getattr(backend, "_abort", None)
            if abort is not None:
                with contextlib.suppress(RuntimeError):
                    abort()
            self._is_done = True


def _abandon(abort: _Abort) -> None:
    """Aborts the group and forgets it, in a thread of its own, because an abort may hang."""
    import torch.distributed as dist

    def work() -> None:
        abort()
        # The first is not in all versions of torch. Destroying a group that was aborted does not wait.
        for forget in (getattr(dist.distributed_c10d, "_abort_process_group", None), dist.destroy_process_group):
            if forget is not None and dist.is_initialized():
                with contextlib.suppress(RuntimeError):
                    forget()

    thread = threading.Thread(target=work, name="abandon", daemon=True)
    thread.start()
    thread.join(_ABORT_WAIT_S)


def _end_process(error: Exception, store: "Store", rank: int) -> None:
    """Ends this process, whose main thread does not come back; prints why, unless another process has done so."""
    speaker: list[int] = []

    def claim() -> None:
        with contextlib.suppress(RuntimeError):
            speaker.append(int(store.compare_set(_SPEAKER, "", str(rank))))

    thread = threading.Thread(target=claim, daemon=True)
    thread.start()
    thread.join(_CLAIM_WAIT_S)
    if speaker in ([], [rank]):
        print(f"hypergossip: {describe_error(error)}", file=sys.stderr, flush=True)
    os._exit(GAVE_UP_EXIT_CODE)
