import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.loggers.console import ConsoleLogger, format_bytes

METRICS = {
    "train/loss": 2.302585,
    "test/accuracy": 0.1012,
    "consensus_distance": 1.25e-5,
    "hypergradient/error": 0.25,
    "comm/bytes": 1_234_567,
    "throughput/node_steps_per_s": 1234.0,
    "test/accuracy_nodes": [0.1, 0.2],
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def info_level() -> Iterator[None]:
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.INFO)
    yield
    root.setLevel(before)


def run_to_the_end(folder: Path, num_steps: int = 100, every: int = 25) -> None:
    with ConsoleLogger() as logger:
        logger.start(folder, {}, {})
        for step in range(num_steps + 1):
            if step % every == 0:
                logger.log(METRICS, step)
            logger.progress(step, num_steps)
        logger.finish({"test/accuracy": 0.5, "best_step": 75}, [])


@pytest.mark.usefixtures("info_level")
def test_without_a_terminal_one_line_per_evaluation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    run_to_the_end(tmp_path)
    lines = [record.getMessage() for record in caplog.records]
    numbers = "train/loss 2.303  test/accuracy 0.1012  consensus_distance 1.25e-05  hypergradient/error 0.25"
    assert lines[:5] == [f"step {step}  {numbers}  comm/bytes 1.23 MB" for step in (0, 25, 50, 75, 100)]
    assert lines[5:] == [f"finished  test/accuracy 0.5  results in {tmp_path}"]
    assert stderr.getvalue() == ""


@pytest.mark.usefixtures("info_level")
def test_simulated_time_is_shown_where_a_timing_is_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    line = "step 5  train/loss 0.5"
    for timing, expected in (({}, line), ({"step_s": 1.0}, f"{line}  time/sim_s 12.5")):
        with ConsoleLogger() as logger:
            logger.start(tmp_path, {"timing": timing}, {})
            logger.log({"train/loss": 0.5, "time/sim_s": 12.5}, 5)
            logger.finish({}, [])
        assert expected in [record.getMessage() for record in caplog.records]
        caplog.clear()


@pytest.mark.usefixtures("info_level")
def test_on_a_terminal_the_bar_and_the_log_do_not_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, screen, file = Terminal(), Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    handlers = [logging.StreamHandler(screen), logging.StreamHandler(file)]
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    try:
        with ConsoleLogger() as logger:
            logger.start(tmp_path, {}, {})
            logger.progress(0, 100)
            logger.log(METRICS, 50)
            logging.getLogger("elsewhere").warning("look here")
            logger.progress(100, 100)
            logger.finish({}, [])
    finally:
        for handler in handlers:
            root.removeHandler(handler)
    ending = f"finished  results in {tmp_path}"
    assert screen.getvalue().splitlines() == ["look here", ending]
    assert file.getvalue().splitlines()[0].startswith("step 50  train/loss 2.303")
    assert file.getvalue().splitlines()[1:] == ["look here", ending]
    assert "loss 2.303  accuracy 0.1012" in terminal.getvalue()
    assert "100/100" in terminal.getvalue()
    assert all(not handler.filters for handler in handlers)


@pytest.mark.usefixtures("info_level")
def test_the_bar_is_drawn_at_most_ten_times_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    now = 1000.0
    monkeypatch.setattr("simulator.loggers.console.time.monotonic", lambda: now)
    with ConsoleLogger() as logger:
        logger.start(tmp_path, {}, {})
        logger.progress(0, 100_000)
        drawn = len(terminal.getvalue())
        for step in range(1, 1000):
            logger.progress(step, 100_000)
        assert len(terminal.getvalue()) == drawn
        now += 0.11
        logger.progress(1000, 100_000)
        assert "1000/100000" in terminal.getvalue()[drawn:]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="pseudo-terminals are a thing of Unix")
@pytest.mark.parametrize(("num_lines", "has_bar"), [(40, True), (0, False)])
def test_on_a_real_terminal_each_number_is_seen_once(num_lines: int, has_bar: bool) -> None:
    import fcntl
    import struct
    import termios

    program = (
        "import logging, sys, pathlib; from simulator.loggers.console import ConsoleLogger\n"
        "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')\n"
        "with ConsoleLogger() as logger:\n"
        "    logger.start(pathlib.Path('folder'), {}, {})\n"
        "    logger.progress(1, 9); logger.log({'train/loss': 1.5}, 4); logger.progress(9, 9)\n"
    )
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", num_lines, 100, 0, 0))
    subprocess.run([sys.executable, "-c", program], stdout=theirs, stderr=theirs, check=True, timeout=60)
    seen = os.read(ours, 65536).decode()
    os.close(ours)
    os.close(theirs)
    assert ("9/9" in seen and "loss 1.5]" in seen) == has_bar
    assert ("step 4  train/loss 1.5" in seen) != has_bar


@pytest.mark.usefixtures("info_level")
def test_a_resumed_bar_starts_at_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with ConsoleLogger() as logger:
        logger.start(tmp_path, {}, {}, resume_step=60)
        logger.progress(60, 100)
    assert " 60%" in terminal.getvalue()
    assert "60/100" in terminal.getvalue()
    assert " 0/100" not in terminal.getvalue()


@pytest.mark.usefixtures("info_level")
def test_a_failing_run_says_how_far_it_came(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail_midway() -> None:
        with ConsoleLogger() as logger:
            logger.start(tmp_path, {}, {})
            logger.log(METRICS, 25)
            logger.progress(29, 100)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_midway()
    last = caplog.records[-1]
    assert last.levelno == logging.ERROR
    assert last.getMessage() == f"failed after step 29  results so far in {tmp_path}"


def test_a_run_that_was_asked_to_stop_has_not_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def stop_midway() -> None:
        with ConsoleLogger() as logger:
            logger.start(tmp_path, {}, {})
            logger.progress(429, 1000)
            raise SystemExit(130)

    with pytest.raises(SystemExit):
        stop_midway()
    assert not caplog.records


def test_without_any_logging_set_up_lines_go_to_standard_error(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from simulator.loggers.console import ConsoleLogger\n"
        "with ConsoleLogger() as logger:\n"
        "    logger.start(Path('folder'), {}, {}); logger.log({'train/loss': 1.5}, 3); logger.progress(3, 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "step 3  train/loss 1.5\n"
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_234_567, "1.23 MB"), (999_999, "1 MB"), (4e18, "4e+03 PB")],
)
def test_format_bytes(num_bytes: float, text: str) -> None:
    assert format_bytes(num_bytes) == text


def test_nothing_costly_is_imported_before_it_is_needed() -> None:
    program = (
        "import sys; import simulator.loggers.console, simulator.loggers.jsonl, simulator.loggers.wandb\n"
        "import simulator.figures\n"
        "print([name for name in ('matplotlib', 'wandb', 'tqdm', 'networkx', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
