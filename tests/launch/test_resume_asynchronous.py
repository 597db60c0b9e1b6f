"""Asynchronous runs that go on with another number of processes, messages in flight included."""

from pathlib import Path

import pytest
import torch
from commands import Start

from simulator import checkpoint
from simulator.job import prepare, run_job
from simulator.world import World

ALGORITHMS = ("async_push_sum", "stale_gossip", "divshare", "adpsgd")
SETTINGS = [
    *("problem=quadratic", "problem.dim=5", "problem.noise=0.3", "num_nodes=7", "graph=ring", "algorithm.lr=0.002"),
    *("timing=two_speed", "timing.latency_s=0.1", "timing.latency_sigma=1", "timing.bandwidth_bytes_per_s=9e3"),
    *("num_threads=1", "dtype=float64", "compute=vmap", "figures=false", "timeout_s=60"),
]
NUM_STEPS, FIRST_STEPS = 12, 7

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


def run_here(folder: Path, composed, *words: str) -> Path:
    """A run in this process."""
    folder.mkdir(parents=True)
    run_job(prepare(composed(*words), words, folder, []), World(), None)
    return folder


def end_of(folder: Path) -> dict:
    """The state at the end of a run: rows of nodes, and messages by what is in them."""
    found = checkpoint.find(folder)
    assert found is not None
    assert found.step == NUM_STEPS
    state = found.load_rows(range(7))
    mail = {key: state.pop(key) for key in list(state) if key.startswith("mail/")}
    if mail:
        names = [key for key in mail if key not in ("mail/source", "mail/step")]
        keys = zip(mail["mail/source"].tolist(), mail["mail/step"].tolist(), strict=True)
        # A message stands in the file of every process that needs it.
        for at, (source, step) in enumerate(keys):
            for name in names:
                row = state.setdefault(f"{name} of {source} after {step}", mail[name][at])
                assert torch.equal(row, mail[name][at])
    return state


def finish(command) -> None:
    ended = command.wait(300)
    assert ended.status == 0, ended


def test_one_process_goes_on_from_three_and_three_from_one(start: Start, composed, tmp_path: Path):
    three = tmp_path / "three"
    finish(
        start(
            *(f"algorithm={','.join(ALGORITHMS)}", f"num_steps={FIRST_STEPS}", "launcher.num_processes=3"),
            f"hydra.sweep.dir={three}",
            settings=SETTINGS,
            arguments="-m",
        )
    )
    whole, halves = {}, {}
    for number, name in enumerate(ALGORITHMS):
        words = (*SETTINGS, f"algorithm={name}")
        assert len(list((three / str(number) / "checkpoint").glob("*/nodes_*.pt"))) == 3
        whole[name] = end_of(run_here(tmp_path / "whole" / name, composed, *words, f"num_steps={NUM_STEPS}"))
        halves[name] = run_here(tmp_path / "one" / name, composed, *words, f"num_steps={FIRST_STEPS}")
        resume = f"resume={three / str(number)}"
        found = end_of(run_here(tmp_path / "from_three" / name, composed, resume, f"num_steps={NUM_STEPS}"))
        torch.testing.assert_close(found, whole[name], rtol=0, atol=1e-10)
    again = tmp_path / "from_one"
    finish(
        start(
            *(f"resume={','.join(map(str, halves.values()))}", f"num_steps={NUM_STEPS}", "launcher.num_processes=3"),
            f"hydra.sweep.dir={again}",
            settings=[],
            arguments="-m",
        )
    )
    for number, name in enumerate(ALGORITHMS):
        torch.testing.assert_close(end_of(again / str(number)), whole[name], rtol=0, atol=1e-10)
    assert sum(" of " in key for key in whole["divshare"]) > 7 * 5  # more than the nodes' own rows
