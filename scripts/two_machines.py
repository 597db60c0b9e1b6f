"""Runs a command of docs/howto/several_machines.md on two machines that this one pretends to be.

    python scripts/two_machines.py --delay-ms 20 --loss 0.01 --processes 2 launch.py experiment=personalization_sgp

The machines are two network namespaces of Linux with addresses of their own. A process carries the packets between
them, late and with losses where that is asked for, so that the kernel needs no traffic control. Both see the same
files. They are removed at the end. Needs root and ``ip`` (the package iproute2). Nothing outside the two is contacted.
"""

import argparse
import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ADDRESSES = ("10.77.0.1", "10.77.0.2")
PORT = 29500
_TUN = "/dev/net/tun"
_DEVICE = "link0"
_NAMESPACES = Path("/var/run/netns")
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_LONGEST_PACKET = 65536


class TwoMachines:
    """Two network namespaces and the cable between them; a context manager.

    Args:
        delay_s: how long a packet travels, seconds.
        loss: the probability that a packet is lost, in 0..1.
    """

    def __init__(self, delay_s: float = 0.0, loss: float = 0.0) -> None:
        self.names = [f"hypergossip-{os.getpid()}-{machine}" for machine in range(2)]
        self._qualities = (str(delay_s), str(loss))
        self._open = contextlib.ExitStack()

    @staticmethod
    def unavailable() -> str:
        """Why this machine cannot pretend to be two; empty if it can."""
        if sys.platform != "linux" or not Path(_TUN).exists():
            return f"there is no {_TUN}, which Linux has"
        if shutil.which("ip") is None:
            return "there is no ip, which the package iproute2 has"
        with contextlib.suppress(subprocess.CalledProcessError), TwoMachines():
            return ""
        return "network namespaces cannot be made here"

    def __enter__(self) -> Self:
        with self._open:
            for name in self.names:
                _ip("netns", "add", name)
                self._open.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
            folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
            self._cut = folder / "cut"
            command = [sys.executable, __file__, "--cable", *self.names, *self._qualities, str(self._cut)]
            # Ctrl-C must not cut it: the machines have to agree on when to stop.
            cable = self._open.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
            )
            self._open.callback(cable.kill)
            assert cable.stdout is not None
            if not cable.stdout.readline():
                raise subprocess.CalledProcessError(1, command)
            for name, address in zip(self.names, ADDRESSES, strict=True):
                _ip("-n", name, "address", "add", f"{address}/24", "dev", _DEVICE)
                for device in ("lo", _DEVICE):
                    _ip("-n", name, "link", "set", device, "up")
            self._open = self._open.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.close()

    def command(self, machine: int, command: Sequence[str]) -> list[str]:
        """The command that runs ``command`` on that machine."""
        return ["ip", "netns", "exec", self.names[machine], *command]

    def torchrun(self, machine: int, num_processes: int, words: Sequence[str]) -> list[str]:
        """The command of the how-to for that machine; ``words`` begin with launch.py."""
        where = ["--nnodes", "2", "--node-rank", str(machine), "--nproc-per-node", str(num_processes)]
        where += ["--master-addr", ADDRESSES[0], "--master-port", str(PORT)]
        return self.torchrun_with(machine, where, words)

    def torchrun_with(self, machine: int, options: Sequence[str], words: Sequence[str]) -> list[str]:
        """Torchrun with these options on that machine."""
        return self.command(machine, [sys.executable, "-m", "simulator.torchrun", *options, *words])

    def cut(self) -> None:
        """No packet arrives any more."""
        self._cut.touch()

    def mend(self) -> None:
        """Packets arrive again."""
        self._cut.unlink(missing_ok=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def carry(names: Sequence[str], delay_s: float, loss: float, cut: Path) -> None:
    """Carries packets between two namespaces until it is killed; none while the file ``cut`` is there."""
    ends = [_open_device(name) for name in names]
    print("ready", flush=True)
    draw = random.Random(0).random
    travelling: list[tuple[float, int, int, bytes]] = []
    count = 0
    while True:
        wait_s = max(0.0, travelling[0][0] - time.monotonic()) if travelling else None
        for end in select.select(ends, [], [], wait_s)[0]:
            packet = os.read(end, _LONGEST_PACKET)
            if draw() >= loss and not cut.exists():
                count += 1
                heapq.heappush(travelling, (time.monotonic() + delay_s, count, ends[end == ends[0]], packet))
        while travelling and travelling[0][0] <= time.monotonic():
            _, _, end, packet = heapq.heappop(travelling)
            with contextlib.suppress(OSError):  # a device that is not up yet
                os.write(end, packet)


def _open_device(name: str) -> int:
    """Makes the network device of a namespace; returns its file descriptor."""
    with (_NAMESPACES / name).open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {name}")
    device = os.open(_TUN, os.O_RDWR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return device


def run(words: Sequence[str], num_processes: int, delay_s: float, loss: float) -> int:
    """Runs the command of the how-to on both machines; returns the larger exit status."""
    with TwoMachines(delay_s, loss) as machines:
        started = [subprocess.Popen(machines.torchrun(machine, num_processes, words)) for machine in range(2)]
        with _passing_signals_on(started):
            return max(abs(machine.wait()) for machine in started)


@contextlib.contextmanager
def _passing_signals_on(started: "Sequence[subprocess.Popen[bytes]]") -> Iterator[None]:
    def pass_on(number: int, frame: object) -> None:
        for machine in started:
            machine.send_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["--cable"]:
        first, second, delay_s, loss, cut = arguments[1:]
        carry([first, second], float(delay_s), float(loss), Path(cut))
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=1, help="on each machine (default: 1)")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="how long a packet travels (default: 0)")
    parser.add_argument("--loss", type=float, default=0.0, help="probability that a packet is lost (default: 0)")
    parser.add_argument("words", nargs=argparse.REMAINDER, help="launch.py and its overrides")
    options = parser.parse_args(arguments)
    reason = TwoMachines.unavailable()
    if reason:
        print(f"two_machines: {reason}", file=sys.stderr)
        return 1
    return run(options.words, options.processes, options.delay_ms / 1000, options.loss)


if __name__ == "__main__":
    sys.exit(main())
