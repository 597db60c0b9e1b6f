"""Checkpoints saved by node: every process writes the rows of its nodes, any number of processes may read them.

Entries of a state whose name begins with ``hub/`` belong to node 0 alone: one row on the process that hosts it, none
elsewhere. Entries whose name begins with ``mail/`` are messages in flight, as many as there are. Every reader gets
those of all processes, and keeps what its nodes need; see :mod:`simulator.network.mailboxes`.

``<run folder>/checkpoint/step_00000100/`` holds one file per writing process and ``meta.json``; the file ``latest``
beside it names the newest complete one and is replaced atomically, after everything else is on disk.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from simulator.network.mailboxes import MAIL_PREFIX
from simulator.network.network import Network

FOLDER = "checkpoint"
HUB_PREFIX = "hub/"
_LATEST = "latest"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk.

    Attributes:
        folder: where it is.
        step: completed steps.
        meta: what :func:`save` was given, and ``num_nodes``.
    """

    folder: Path
    step: int
    meta: dict[str, Any]

    @property
    def run_folder(self) -> Path:
        """The folder of the run that wrote it."""
        return self.folder.parents[1]

    def compute_choices(self, compute: str) -> dict[str, str] | None:
        """The recorded choices of executors, if the run had the same ``compute`` setting; None otherwise."""
        choices: dict[str, str] = self.meta["compute_choices"]
        return choices if self.meta["compute"] == compute else None

    def load_rows(self, nodes: range) -> dict[str, Tensor]:
        """The state's rows of ``nodes``, whichever processes wrote them.

        Raises:
            ValueError: naming the file, when one is missing or damaged.
        """
        parts: dict[str, list[Tensor]] = {}
        for name, start, stop in self.meta["files"]:
            first, last = max(start, nodes.start), min(stop, nodes.stop)
            if first >= last:
                continue
            rows = _read_rows(self.folder / name)
            for key, value in rows.items():
                if key.startswith(MAIL_PREFIX):
                    continue
                if key.startswith(HUB_PREFIX):
                    own = value if 0 in nodes else value[:0]
                else:
                    own = value[first - start : last - start]
                parts.setdefault(key, []).append(own.clone())
        return {key: torch.cat(values) for key, values in parts.items()} | self._load_mail()

    def _load_mail(self) -> dict[str, Tensor]:
        parts: dict[str, list[Tensor]] = {}
        for name, _, _ in self.meta["files"]:
            rows = _read_rows(self.folder / name, mmap=True)
            for key in rows:
                if key.startswith(MAIL_PREFIX):
                    parts.setdefault(key, []).append(rows[key].clone())
        return {key: torch.cat(values) for key, values in parts.items()}


def find(run_folder: Path) -> Checkpoint | None:
    """The newest complete checkpoint of a run, or None.

    Raises:
        ValueError: naming the file, when it is damaged.
    """
    pointer = run_folder / FOLDER / _LATEST
    if not pointer.is_file():
        return None
    folder = run_folder / FOLDER / pointer.read_text().strip()
    try:
        meta = json.loads((folder / "meta.json").read_text())
        return Checkpoint(folder, meta["step"], meta)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _damaged(folder / "meta.json", error) from error


def _read_rows(path: Path, *, mmap: bool = False) -> dict[str, Tensor]:
    try:
        rows: dict[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)
    except Exception as error:  # torch raises whatever its reader stumbles over
        raise _damaged(path, error) from error
    return rows


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return ValueError(f"{path}: this file of the checkpoint is missing or damaged ({reason})")


def save(run_folder: Path, step: int, state: dict[str, Tensor], meta: dict[str, Any], network: Network) -> None:
    """Writes a checkpoint; every process must call it.

    Args:
        step: completed steps.
        state: the rows of the local nodes.
        meta: plain values that are the same for the whole run; rank 0's are kept.
    """
    placement = network.placement
    base = run_folder / FOLDER
    folder = base / f"step_{step:08d}"
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for rank in range(placement.world_size):
        nodes = placement.nodes_of(rank)
        files.append((f"nodes_{nodes.start:06d}-{nodes.stop - 1:06d}.pt", nodes.start, nodes.stop))
    path = folder / files[placement.rank][0]
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        torch.save({name: rows.detach().cpu().contiguous() for name, rows in without_free_mail(state).items()}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    network.barrier()
    if placement.rank == 0:
        write_atomically(folder / "meta.json", json.dumps({**meta, "step": step, "files": files}))
        write_atomically(base / _LATEST, folder.name)
        for other in base.glob("step_*"):
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)


def without_free_mail(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state with only those rows of ``mail/`` that hold a message."""
    source = state.get(f"{MAIL_PREFIX}source")
    if source is None:
        return state
    used = (source >= 0).nonzero()[:, 0]
    return {name: rows[used.to(rows.device)] if name.startswith(MAIL_PREFIX) else rows for name, rows in state.items()}


def write_atomically(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old or the new content, never a part."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
