import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from simulator.loggers.jsonl import JsonlLogger, read_records


def write(folder: Path, rows: list[tuple[int, dict]], resume_step: int | None = None) -> Path:
    with JsonlLogger() as logger:
        logger.start(folder, {}, {}, resume_step)
        for step, metrics in rows:
            logger.log(metrics, step)
        logger.finish({}, [])
    return folder / "metrics.jsonl"


def rows_of(*steps: int) -> list[tuple[int, dict]]:
    return [(step, {"train/loss": 1.0 / (step + 3), "comm/bytes": 10**15 + step}) for step in steps]


def test_numbers_survive_bit_by_bit(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = [float(value) for value in generator.standard_normal(50) * 10.0 ** generator.integers(-300, 300, 50)]
    path = write(tmp_path, [(7, {"a": values[0], "nodes": values, "comm/bytes": 2**60 + 1})])
    assert read_records(path) == [{"step": 7, "a": values[0], "nodes": values, "comm/bytes": 2**60 + 1}]


def test_numpy_and_torch_numbers_become_plain_numbers(tmp_path: Path) -> None:
    metrics = {
        "scalar": np.float32(0.5),
        "array": np.arange(3),
        "tensor": torch.tensor(2.5),
        "mixed": [np.int64(1), np.float64(0.25)],
    }
    (line,) = write(tmp_path, [(0, metrics)]).read_text().splitlines()
    assert json.loads(line) == {"step": 0, "scalar": 0.5, "array": [0, 1, 2], "tensor": 2.5, "mixed": [1, 0.25]}


def test_file_is_strict_json_and_non_finite_values_read_back_as_nan(tmp_path: Path) -> None:
    path = write(tmp_path, [(0, {"a": math.nan, "b": math.inf, "c": [1.0, -math.inf]})])

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    assert json.loads(path.read_text(), parse_constant=refuse) == {"step": 0, "a": None, "b": None, "c": [1.0, None]}
    (record,) = read_records(path)
    assert math.isnan(record["a"])
    assert math.isnan(record["b"])
    assert record["c"][0] == 1.0
    assert math.isnan(record["c"][1])


def test_every_line_is_on_disk_at_once(tmp_path: Path) -> None:
    logger = JsonlLogger()
    logger.start(tmp_path, {}, {})
    for count, (step, metrics) in enumerate(rows_of(0, 10, 20), start=1):
        logger.log(metrics, step)
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == count
    logger.close(failed=False)


@pytest.mark.parametrize("broken_end", ["", '{"step": 40, "train/lo', '{"step": 40, "train/loss": 9.0}'])
def test_resumed_file_equals_that_of_an_uninterrupted_run(tmp_path: Path, broken_end: str) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    whole.mkdir()
    resumed.mkdir()
    expected = write(whole, rows_of(0, 10, 20, 30, 40)).read_bytes()
    path = write(resumed, rows_of(0, 10, 20, 30))
    with path.open("a") as file:
        file.write(broken_end)
    write(resumed, rows_of(30, 40), resume_step=20)
    assert path.read_bytes() == expected
    assert [entry.name for entry in resumed.iterdir()] == ["metrics.jsonl"]


def test_half_a_line_at_the_end_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path, rows_of(0, 10))
    text = path.read_text()
    path.write_text(text[:-8])
    assert [record["step"] for record in read_records(path)] == [0]
    write(tmp_path, rows_of(10), resume_step=10)
    assert path.read_text() == text


def test_half_a_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"step": 1\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"line 2: not JSON"):
        read_records(path)


def test_a_line_without_a_step_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"loss": 0}\n{"step": 1}\n')
    with pytest.raises(ValueError, match=r'line 1: expected .*"step"'):
        read_records(path)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_records(tmp_path / "metrics.jsonl")


def test_a_new_run_starts_an_empty_file(tmp_path: Path) -> None:
    write(tmp_path, rows_of(0, 10))
    assert [record["step"] for record in read_records(write(tmp_path, rows_of(5)))] == [5]


def test_a_failing_run_keeps_what_it_wrote(tmp_path: Path) -> None:
    def fail_midway() -> None:
        with JsonlLogger() as logger:
            logger.start(tmp_path, {}, {})
            logger.log({"train/loss": 1.0}, 0)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        fail_midway()
    assert read_records(tmp_path / "metrics.jsonl") == [{"step": 0, "train/loss": 1.0}]
