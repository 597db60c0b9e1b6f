"""Checkpoints: written by some processes, read by others, and never half of one."""

import json
from types import SimpleNamespace

import pytest
import torch

from simulator import checkpoint
from simulator.placement import Placement

NUM_NODES = 7


def state_of(step):
    rng = torch.Generator().manual_seed(step)
    return {
        "params": torch.randn(NUM_NODES, 5, generator=rng),
        "push_sum_weight": torch.rand(NUM_NODES, dtype=torch.float64, generator=rng),
        "masks": torch.randint(0, 2, (NUM_NODES, 2, 3), generator=rng, dtype=torch.uint8),
        "hparams": torch.zeros(NUM_NODES, 0),
        "hub/embedding": torch.randn(1, 4, generator=rng),
    }


def part_of(state, nodes):
    """A hub's rows are with node 0."""
    part = {name: rows[nodes.start : nodes.stop] for name, rows in state.items()}
    part["hub/embedding"] = state["hub/embedding"] if 0 in nodes else state["hub/embedding"][:0]
    return part


def meet():
    """Nobody else is there."""


def save_as(folder, rank, world_size, step, barrier=meet):
    """What one process of several does; ``barrier`` is where it meets the others."""
    placement = Placement(NUM_NODES, world_size, rank)
    network = SimpleNamespace(placement=placement, barrier=barrier)
    checkpoint.save(folder, step, part_of(state_of(step), placement.nodes), {"num_nodes": NUM_NODES, "x": [1]}, network)


def save_all(folder, world_size, step):
    """All processes one after the other; rank 0 goes on from the meeting last."""
    for rank in reversed(range(world_size)):
        save_as(folder, rank, world_size, step)


@pytest.mark.parametrize("writers", [1, 2, 3, 7])
@pytest.mark.parametrize("readers", [1, 2, 4, 7])
def test_any_number_of_processes_reads_what_any_number_wrote(tmp_path, writers, readers):
    save_all(tmp_path, writers, 30)
    found = checkpoint.find(tmp_path)
    assert found.step == 30
    assert found.meta["num_nodes"] == NUM_NODES
    assert found.meta["x"] == [1]
    for rank in range(readers):
        nodes = Placement(NUM_NODES, readers, rank).nodes
        loaded = found.load_rows(nodes)
        expected = part_of(state_of(30), nodes)
        assert set(loaded) == set(expected)
        for name, rows in loaded.items():
            assert rows.dtype == expected[name].dtype
            torch.testing.assert_close(rows, expected[name], rtol=0, atol=0)


def test_any_range_of_nodes_can_be_read(tmp_path):
    save_all(tmp_path, 3, 1)
    found = checkpoint.find(tmp_path)
    for start in range(NUM_NODES):
        for stop in range(start + 1, NUM_NODES + 1):
            rows = found.load_rows(range(start, stop))["params"]
            assert torch.equal(rows, state_of(1)["params"][start:stop])


def test_without_a_complete_checkpoint_there_is_none(tmp_path):
    assert checkpoint.find(tmp_path) is None
    save_as(tmp_path, 1, 2, 10)  # rank 0 never came
    assert checkpoint.find(tmp_path) is None


def interrupted(*_):
    raise InterruptedError


@pytest.mark.parametrize("rank", [0, 1])
def test_a_half_written_newest_checkpoint_is_ignored(tmp_path, rank):
    save_all(tmp_path, 2, 10)
    with pytest.raises(InterruptedError):
        save_as(tmp_path, rank, 2, 20, barrier=interrupted)
    assert (tmp_path / "checkpoint" / "step_00000020").is_dir()
    found = checkpoint.find(tmp_path)
    assert found.step == 10
    assert torch.equal(found.load_rows(range(NUM_NODES))["params"], state_of(10)["params"])


def test_a_crash_before_the_pointer_moves_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    save_all(tmp_path, 2, 10)
    written = []
    write = checkpoint.write_atomically

    def crash_at_the_pointer(path, text):
        written.append(path.name)
        if path.name == "latest":
            raise InterruptedError
        write(path, text)

    monkeypatch.setattr(checkpoint, "write_atomically", crash_at_the_pointer)
    with pytest.raises(InterruptedError):
        save_all(tmp_path, 2, 20)
    assert written == ["meta.json", "latest"]
    assert checkpoint.find(tmp_path).step == 10
    assert checkpoint.find(tmp_path).load_rows(range(NUM_NODES))["params"].shape == (NUM_NODES, 5)


def test_leftovers_of_another_number_of_processes_are_overwritten(tmp_path):
    save_all(tmp_path, 3, 10)
    save_as(tmp_path, 1, 3, 20)  # then everything was lost, and two processes came back
    save_all(tmp_path, 2, 20)
    found = checkpoint.find(tmp_path)
    assert torch.equal(found.load_rows(range(NUM_NODES))["params"], state_of(20)["params"])


def test_only_the_newest_checkpoint_is_kept_and_nothing_temporary(tmp_path):
    for step in (1, 2, 3):
        save_all(tmp_path, 2, step)
    base = tmp_path / "checkpoint"
    assert sorted(path.name for path in base.iterdir()) == ["latest", "step_00000003"]
    names = sorted(path.name for path in (base / "step_00000003").iterdir())
    assert names == ["meta.json", "nodes_000000-000002.pt", "nodes_000003-000006.pt"]


def test_a_saved_state_does_not_follow_later_changes(tmp_path):
    """Rows of a larger tensor are saved alone, and without their gradients."""
    rows = torch.arange(20.0).view(10, 2).requires_grad_()
    network = SimpleNamespace(placement=Placement(2), barrier=meet)
    checkpoint.save(tmp_path, 1, {"params": rows[:2]}, {}, network)
    with torch.no_grad():
        rows.zero_()
    loaded = checkpoint.find(tmp_path).load_rows(range(2))["params"]
    assert loaded.tolist() == [[0, 1], [2, 3]]
    assert not loaded.requires_grad


def test_writing_atomically_replaces_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "meta.json"
    checkpoint.write_atomically(path, json.dumps({"a": 1}))
    checkpoint.write_atomically(path, "new")
    assert path.read_text() == "new"
    monkeypatch.setattr(checkpoint.os, "fsync", interrupted)
    with pytest.raises(InterruptedError):
        checkpoint.write_atomically(path, "newer")
    assert path.read_text() == "new"


def test_a_damaged_file_is_named(tmp_path):
    save_all(tmp_path, 2, 3)
    found = checkpoint.find(tmp_path)
    rows = found.folder / found.meta["files"][1][0]
    whole = rows.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"rubbish"):
        rows.write_bytes(broken)
        with pytest.raises(ValueError, match=rf"^{rows}: this file of the checkpoint is missing or damaged \(.+\)$"):
            found.load_rows(range(NUM_NODES))
    rows.unlink()
    with pytest.raises(ValueError, match=rf"^{rows}: this file .* No such file"):
        found.load_rows(range(NUM_NODES))
    (found.folder / "meta.json").write_text('{"step": 3')
    with pytest.raises(ValueError, match=r"meta\.json: this file of the checkpoint is missing or damaged \(.+\)$"):
        checkpoint.find(tmp_path)
