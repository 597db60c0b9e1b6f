"""TensorBoard's event files, read back with TensorBoard's own reader."""

import math
from pathlib import Path

import pytest
from PIL import Image

from simulator.loggers.tensorboard import TensorBoardLogger

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def read(run_folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_folder / "tensorboard"), size_guidance={"images": 0, "histograms": 0})
    events.Reload()
    return events


def test_everything_is_read_back_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    picture = first / "curves.png"
    Image.new("RGB", (20, 10), "red").save(picture)
    config = {"algorithm": {"_target_": "a.B", "lr": 0.5}, "choices": {"algorithm": "sgp"}}
    with TensorBoardLogger(node_histograms=True) as logger:
        logger.start(first, config, {})
        for step in (0, 10, 20):
            logger.log({"train/loss": 1 / (step + 1), "test/accuracy_nodes": [0.5, math.nan, step / 40]}, step)
        logger.finish({"best/test/accuracy": 0.75, "step": 20}, [picture])
    events = read(first)
    assert [(each.step, round(each.value, 6)) for each in events.Scalars("train/loss")] == [
        (0, 1.0),
        (10, 0.090909),
        (20, 0.047619),
    ]
    assert [each.value for each in events.Scalars("summary/best/test/accuracy")] == [0.75]
    assert [each.step for each in events.Histograms("nodes/test/accuracy_nodes")] == [0, 10, 20]
    (image,) = events.Images("figures/curves")
    assert (image.width, image.height, image.step) == (20, 10, 20)
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "name: sgp" in text
    assert "a.B" not in text
    with TensorBoardLogger(node_histograms=False) as logger:
        logger.start(second, {**config, "resume": str(first)}, {}, 9)
        for step in (10, 20, 30):
            logger.log({"train/loss": float(step)}, step)
    assert [(each.step, each.value) for each in read(second).Scalars("train/loss")] == [
        (0, 1.0),
        (10, 10.0),
        (20, 20.0),
        (30, 30.0),
    ]
