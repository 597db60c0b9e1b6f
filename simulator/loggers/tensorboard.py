"""TensorBoard: the metrics, the configuration and the figures of a run as event files in the run folder.

Needs the package tensorboard. ``tensorboard --logdir outputs`` shows all runs below a folder.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from simulator.errors import missing_extra
from simulator.loggers.base import Logger, Metric
from simulator.loggers.run_description import shown_config

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


class TensorBoardLogger(Logger):
    """Event files in ``<run folder>/tensorboard``. A resumed run continues those of the run that it resumes.

    Args:
        node_histograms: whether every evaluation also writes the distribution of every metric over the nodes.

    Raises:
        ValueError: when the package is not installed.
    """

    def __init__(self, *, node_histograms: bool) -> None:
        import importlib.util

        if importlib.util.find_spec("tensorboard") is None:
            raise missing_extra("logger=tensorboard", "tensorboard", "tensorboard")
        self.node_histograms = node_histograms
        self._writer: SummaryWriter | None = None
        self._last_step = 0

    def start(
        self,
        run_folder: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        resume_step: int | None = None,
    ) -> None:
        """Opens the event files, and writes the configuration as text."""
        from torch.utils.tensorboard import SummaryWriter

        folder = run_folder / FOLDER
        earlier = Path(config.get("resume") or run_folder) / FOLDER
        if resume_step is not None and earlier.is_dir() and earlier.resolve() != folder.resolve():
            shutil.copytree(earlier, folder, dirs_exist_ok=True)
        # Values of later steps, which the resumed run computes again, are left out by TensorBoard.
        self._writer = SummaryWriter(str(folder), purge_step=None if resume_step is None else resume_step + 1)
        shown = OmegaConf.to_yaml(OmegaConf.create(shown_config(config)))
        self._writer.add_text("config", "\n".join(f"    {line}" for line in shown.splitlines()))

    def log(self, metrics: Mapping[str, Metric], step: int) -> None:
        """Writes the scalars, and the values of the nodes where asked for."""
        assert self._writer is not None, "log before start"
        for name, value in metrics.items():
            if not isinstance(value, Sequence):
                self._writer.add_scalar(name, value, step)
            elif self.node_histograms:
                finite = [each for each in value if each == each]
                if finite:
                    import numpy as np

                    self._writer.add_histogram(f"nodes/{name}", np.asarray(finite), step)
        self._writer.flush()
        self._last_step = step

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path]) -> None:
        """Writes the figures, and the numbers of the summary that no evaluation has."""
        assert self._writer is not None, "finish before start"
        import numpy as np
        from PIL import Image

        for figure in figures:
            if figure.suffix == ".png":
                with Image.open(figure) as opened:
                    pixels = np.asarray(opened.convert("RGB"))
                self._writer.add_image(f"figures/{figure.stem}", pixels, self._last_step, dataformats="HWC")
        for name, value in summary.items():
            if name.startswith("best/") and isinstance(value, int | float):
                self._writer.add_scalar(f"summary/{name}", value, self._last_step)

    def close(self, failed: bool) -> None:
        """Closes the event files; those of a failed run stay."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
