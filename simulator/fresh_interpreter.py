"""Several processes for a run that is started from Python: a fresh interpreter forks them.

An interpreter that has computed with torch, such as a notebook's, must not be forked: autograd's threads are not in the
copy. So ``python -m simulator.fresh_interpreter`` receives the job on its standard input, forks the ranks, and sends
back on a pipe what happens, one JSON object per line: log lines, progress, evaluations, and why it failed.
"""

import json
import logging
import math
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from simulator.errors import Report, RunError
from simulator.job import Job, run_job
from simulator.local_processes import run_local
from simulator.loggers.base import Logger, Metric
from simulator.loggers.console import SECONDS_BETWEEN_UPDATES, ConsoleLogger
from simulator.memory import keep_memory
from simulator.processes import STOPPED_EXIT_CODE

_END_WAIT_S = 15.0


def run(job: Job) -> None:
    """Runs a job on ``launcher.num_processes`` processes that a fresh interpreter forks; shows what it reports.

    SIGINT and SIGTERM are passed on where this is the main thread.

    Raises:
        ValueError: a user error, as one line.
        RunError: a run that failed, as one line.
        SystemExit: after a signal, when the checkpoint is written.
    """
    _require_importable(job.config)
    reading, writing = os.pipe()
    command = [sys.executable, "-P", "-m", __name__, str(writing)]
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[writing],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},
        start_new_session=True,  # only this process passes Control-C on to it
    )
    os.close(writing)
    assert child.stdin is not None
    assert child.stdout is not None
    with open(reading, "rb") as events, child.stdout as output, _passing_signals_on(child), _ended(child):
        try:
            with child.stdin as order:
                order.write(json.dumps(asdict(job)).encode())
        except BrokenPipeError:
            pass  # it has died; the reason is in its output
        failure = _show(events, output)
    if failure is not None:
        raise failure.as_error()
    status = child.returncode
    if status == STOPPED_EXIT_CODE:
        raise SystemExit(status)
    if status < 0:
        raise RunError(f"the process that started the ranks was killed by {signal.Signals(-status).name}")
    if status > 0:
        raise RunError(f"the process that started the ranks ended with exit status {status}; its output says why")


def _require_importable(settings: Any) -> None:
    """Checks that no component is a class of the caller's own session, which another interpreter cannot import."""
    if not isinstance(settings, Mapping):
        return
    target = settings.get("_target_")
    if isinstance(target, str) and target.startswith("__main__."):
        raise ValueError(
            f"{target}: several processes can only import a class from a file; move it, or use processes=1"
        )
    for entry in settings.values():
        _require_importable(entry)


def _show(events: IO[bytes], output: IO[bytes]) -> Report | None:
    """Shows all reports until both ends are closed; returns why the run failed, if that was reported."""
    console = _Shown()
    with selectors.DefaultSelector() as selector:
        selector.register(events, selectors.EVENT_READ, console.event)
        selector.register(output, selectors.EVENT_READ, console.print)
        rest: dict[Any, bytes] = {events: b"", output: b""}
        while selector.get_map():
            for key, _ in selector.select():
                stream = key.fileobj
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(stream)
                *lines, rest[stream] = (rest[stream] + (chunk or b"\n")).split(b"\n")
                for line in filter(None, lines):
                    key.data(line.decode(errors="replace"))
    console.close()
    return console.failure


class _Shown:
    """The parent's side of the pipe."""

    def __init__(self) -> None:
        self.failure: Report | None = None
        self._console = ConsoleLogger()
        self._is_open = True

    def close(self) -> None:
        """Removes the progress bar when the run ended before it could."""
        if self._is_open:
            self._console.close(failed=True)

    def print(self, line: str) -> None:
        """Shows a line that the fresh interpreter or a rank has printed, such as a warning."""
        print(line, file=sys.stderr)

    def event(self, line: str) -> None:
        """Shows one event that the fresh interpreter or rank 0 reports."""
        name, *values = json.loads(line)
        if name == "record":
            logger, level, text = values
            logging.getLogger(logger).log(level, "%s", text)
        elif name == "failure":
            self.failure = Report(**values[0])
        elif name == "start":
            self._console.start(Path(values[0]), {}, {})
        elif name == "log":
            self._console.log(*values)
        elif name == "progress":
            self._console.progress(*values)
        elif name == "finish":
            self._console.finish(values[0], [])
        elif name == "close":
            self._console.close(*values)
            self._is_open = False


@contextmanager
def _passing_signals_on(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Passes SIGINT and SIGTERM inside the block on to the child, which then ends by itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, lambda received, _: child.send_signal(received)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _ended(child: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Ends the child after the block: waits for it, or terminates it when the block raised an error."""
    try:
        yield
    except BaseException:
        child.terminate()
        raise
    finally:
        try:
            child.wait(_END_WAIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class _Pipe:
    """The child's side of the pipe: writes each event in one piece."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, *event: Any) -> None:
        line = memoryview(json.dumps(event, default=_plain).encode() + b"\n")
        while line:
            line = line[os.write(self._descriptor, line) :]


def _plain(value: Any) -> Any:
    """Converts values of NumPy and torch to Python's."""
    return value.tolist()


class _PipeHandler(logging.Handler):
    """Sends log records to the parent."""

    def __init__(self, pipe: _Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        self._pipe.send("record", record.name, record.levelno, record.getMessage())


class _PipeLogger(Logger):
    """Sends what a console shows to the parent."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe
        self._last_progress_s = -math.inf

    def start(
        self,
        run_folder: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        resume_step: int | None = None,
    ) -> None:
        self._pipe.send("start", str(run_folder))

    def log(self, metrics: Mapping[str, Metric], step: int) -> None:
        self._pipe.send("log", metrics, step)

    def progress(self, step: int, num_steps: int) -> None:
        now = time.monotonic()
        if step == num_steps or now - self._last_progress_s >= SECONDS_BETWEEN_UPDATES:
            self._last_progress_s = now
            self._pipe.send("progress", step, num_steps)

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path]) -> None:
        self._pipe.send("finish", summary)

    def close(self, failed: bool) -> None:
        self._pipe.send("close", failed)


def main() -> int:
    """The fresh interpreter; returns the exit status."""
    keep_memory()
    pipe = _Pipe(int(sys.argv[1]))
    logging.basicConfig(level=logging.INFO, handlers=[_PipeHandler(pipe)])
    job = Job(**json.loads(sys.stdin.read()))
    try:
        run_local(
            job.config["launcher"]["num_processes"],
            lambda world, store: run_job(job, world, store, console=_PipeLogger(pipe)),
        )
    except (ValueError, RunError) as error:
        pipe.send("failure", asdict(Report.of(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
