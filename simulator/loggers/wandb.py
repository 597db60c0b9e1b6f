"""Weights & Biases: every evaluation, the figures and the summary of a run, online or into the run folder.

Every row holds ``step`` and, where the run communicates, ``comm/bytes``. Charts have ``step`` as their x-axis;
``comm/bytes`` is a metric of its own in every row, so it can be chosen as the x-axis of any chart.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from simulator.loggers.base import Logger, Metric

_log = logging.getLogger(__name__)
Mode = Literal["online", "offline"]
_ID_FILE = "wandb_id.txt"


class WandbLogger(Logger):
    """One W&B run per run; wandb is imported when the run starts.

    Lists with one value per node are not logged at every evaluation; the last one becomes a histogram.
    A resumed run continues the W&B run whose id is in the run folder.
    """

    def __init__(
        self,
        *,
        project: str,
        entity: str | None,
        mode: Mode,
        group: str | None,
        name: str | None,
        tags: Sequence[str],
    ) -> None:
        """Checks and stores the settings.

        Args:
            project: project on W&B.
            entity: user or team that owns the project; None for the account's default.
            mode: "online" sends to the server, "offline" writes files into the run folder for ``wandb sync``.
            group: group of the run; None for the name of the sweep's folder in a multirun, otherwise no group.
            name: name of the run; None for the name of the run folder (after the sweep's, in a multirun).
            tags: tags of the run.

        Raises:
            ValueError: when ``mode`` is not one of the two, ``project`` is empty or ``tags`` is not a list.
        """
        if mode not in get_args(Mode):
            raise ValueError(f"logger.mode={mode!r}: choose one of {', '.join(get_args(Mode))}")
        if not project:
            raise ValueError("logger.project is empty: give the name of a W&B project")
        if isinstance(tags, str):
            raise ValueError(f"logger.tags={tags!r}: give a list of strings, such as [{tags}]")
        self.project = project
        self.entity = entity
        self.mode = mode
        self.group = group
        self.name = name
        self.tags = tuple(tags)
        self._run: Any = None
        self._node_values: dict[str, list[float]] = {}
        self._last_step = 0

    def start(
        self,
        run_folder: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        resume_step: int | None = None,
    ) -> None:
        """Starts or continues the W&B run.

        Raises:
            ValueError: when W&B refuses, for example without a login or a network.
        """
        import wandb

        id_file = run_folder / _ID_FILE
        continued_id = id_file.read_text().strip() if resume_step is not None and id_file.is_file() else None
        sweep = _sweep_name(run_folder)
        try:
            self._run = wandb.init(
                project=self.project,
                entity=self.entity,
                mode=self.mode,
                group=self.group or sweep,
                name=self.name or (f"{sweep}-{run_folder.name}" if sweep else run_folder.name),
                tags=self.tags,
                dir=str(run_folder),
                id=continued_id,
                # Offline there is no server to ask; the equal id makes `wandb sync` append to the same run.
                resume="allow" if continued_id and self.mode == "online" else None,
                config={**config, "environment": dict(environment)},
                allow_val_change=True,
                # Standard output is not captured: launch.log has it, and capturing would break the progress bar.
                settings=wandb.Settings(console="off", silent=self.mode == "offline"),
            )
        except wandb.errors.Error as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"logger=wandb could not start a run ({reason}): run `wandb login`, or set logger.mode=offline"
            ) from error
        id_file.write_text(f"{self._run.id}\n")
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        where = self._run.url if self.mode == "online" else f"offline, upload with: wandb sync {self._folder()}"
        _log.info("W&B run %s (%s)", self._run.id, where)

    def log(self, metrics: Mapping[str, Metric], step: int) -> None:
        """Logs the scalars as one row; stores the values of the nodes for :meth:`finish`."""
        assert self._run is not None, "log before start"
        row: dict[str, Any] = {"step": step}
        for name, value in metrics.items():
            if isinstance(value, Sequence):
                self._node_values[name] = [float(item) for item in value]
            else:
                row[name] = value
        # W&B's own step is set too. It only increases, and W&B already has the steps that a resumed run repeats.
        if step >= self._run.step:
            self._run.log(row, step=step, commit=True)
        self._last_step = step

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path]) -> None:
        """Logs histograms over the nodes, the figures as "figures/<stem>", and the summary."""
        import wandb

        assert self._run is not None, "finish before start"
        media: dict[str, Any] = {f"figures/{figure.stem}": wandb.Image(str(figure)) for figure in figures}
        for name, values in self._node_values.items():
            finite = [value for value in values if math.isfinite(value)]
            if finite:
                media[name] = wandb.Histogram(finite)
        if media:
            self._run.log({"step": self._last_step, **media})
        self._run.summary.update(dict(summary))

    def close(self, failed: bool) -> None:
        """Ends the W&B run, as failed (exit code 1) or finished (0)."""
        if self._run is not None:
            import wandb

            exit_code = 1 if failed else 0
            self._run.finish(exit_code=exit_code)
            self._run = None
            # W&B writes from a process of its own. Wait for it, because this process may end without exit handlers.
            wandb.teardown(exit_code)

    def _folder(self) -> Path:
        return Path(self._run.dir).parent


def _sweep_name(run_folder: Path) -> str | None:
    """Name of the multirun folder that holds the run folder (Hydra leaves a multirun.yaml there), if there is one."""
    for folder in run_folder.absolute().parents[:2]:
        if (folder / "multirun.yaml").is_file():
            return folder.name
    return None
