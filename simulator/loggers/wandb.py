"""Weights & Biases: every evaluation, the figures and the summary of a run, online or into the run folder.

Every row holds ``step`` and, where the run communicates, ``comm/bytes``. Charts have ``step`` as their x-axis;
``comm/bytes`` is a metric of its own in every row, so it can be chosen as the x-axis of any chart.
"""

import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from simulator.loggers.base import Logger, Metric
from simulator.loggers.run_description import run_name, shown_config, sweep_folder

_log = logging.getLogger(__name__)
Mode = Literal["online", "offline", "disabled"]
_ID_FILE = "wandb_id.txt"
_LOG = "launch.log"
_CONNECT_S = 60.0
_LARGEST_IS_BEST = ("accuracy",)
_SMALLEST_IS_BEST = ("loss", "error", "distance", "grad_norm")
_X_AXES = ("step", "outer_step", "comm/bytes", "time/sim_s", "time/wall_s")


class WandbLogger(Logger):
    """One W&B run per run; wandb is imported when the run starts.

    A resumed run continues the W&B run of the run folder that it resumes. Where the server cannot be reached, the run
    goes on and writes offline files.
    """

    def __init__(
        self,
        *,
        project: str | None,
        entity: str | None,
        mode: Mode | None,
        group: str | None,
        name: str | None,
        tags: Sequence[str],
        node_table: bool,
        checkpoints: bool,
        folder: bool,
    ) -> None:
        """Checks and stores the settings.

        Args:
            project: project on W&B; None for the variable WANDB_PROJECT, or else hypergossip.
            entity: user or team that owns the project; None for WANDB_ENTITY, or else the account's default.
            mode: "online" sends to the server, "offline" writes files into the run folder for ``wandb sync``,
                "disabled" does nothing; None for WANDB_MODE, or else online.
            group: group of the run; None for the name of the sweep's folder in a multirun, otherwise no group.
            name: name of the run; None for algorithm, graph, seed, and what else is swept in a multirun.
            tags: tags of the run, beside the name of the experiment.
            node_table: whether every evaluation also logs a table of the values of all nodes.
            checkpoints: whether the last checkpoint becomes an artifact at the end.
            folder: whether the run folder, without checkpoints and W&B's own files, becomes an artifact at the end.

        Raises:
            ValueError: when ``mode`` is unknown, ``project`` is empty or ``tags`` is not a list.
        """
        mode = mode or os.environ.get("WANDB_MODE") or "online"  # type: ignore[assignment]  # checked below
        if mode not in get_args(Mode):
            raise ValueError(f"logger.mode={mode!r}: choose one of {', '.join(get_args(Mode))}")
        if project == "":
            raise ValueError("logger.project is empty: give the name of a W&B project")
        if isinstance(tags, str):
            raise ValueError(f"logger.tags={tags!r}: give a list of strings, such as [{tags}]")
        self.project = project or os.environ.get("WANDB_PROJECT") or "hypergossip"
        self.entity = entity or os.environ.get("WANDB_ENTITY") or None
        self.mode = mode
        self.group = group
        self.name = name
        self.tags = tuple(tags)
        self.node_table = node_table
        self.checkpoints = checkpoints
        self.folder = folder
        self._run: Any = None
        self._run_folder = Path()
        self._node_values: dict[str, list[float]] = {}
        self._defined: set[str] = set()
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
            ValueError: when W&B refuses, for example without a login.
        """
        import wandb

        if self.mode == "disabled":
            return
        self._run_folder = run_folder
        continued_id = None if resume_step is None else _id_of(Path(config.get("resume") or run_folder))
        try:
            self._run = self._init(run_folder, config, environment, continued_id)
        except wandb.errors.CommError as error:
            if isinstance(error, wandb.errors.AuthenticationError) or self.mode == "offline":
                raise _refused(error) from error
            _log.warning("W&B cannot be reached (%s): the run goes on offline", _one_line(error))
            self.mode = "offline"
            self._run = self._init(run_folder, config, environment, continued_id)
        except wandb.errors.Error as error:
            raise _refused(error) from error
        (run_folder / _ID_FILE).write_text(f"{self._run.id}\n")
        for name in _X_AXES:
            self._run.define_metric(name)
        self._run.define_metric("*", step_metric="step")
        where = self._run.url if self.mode == "online" else f"offline, upload with: wandb sync {self._folder()}"
        _log.info("W&B run %s (%s)", self._run.id, where)

    def _init(
        self, run_folder: Path, config: Mapping[str, Any], environment: Mapping[str, Any], continued_id: str | None
    ) -> Any:
        import wandb

        sweep, experiment = sweep_folder(run_folder), config.get("choices", {}).get("experiment")
        return wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            group=self.group or (sweep.name if sweep else None),
            job_type=str(experiment or "run"),
            name=self.name or run_name(config, run_folder),
            tags=[*self.tags, *([str(experiment)] if experiment else [])],
            dir=str(run_folder),
            id=continued_id,
            # Offline there is no server to ask; the equal id makes `wandb sync` append to the same run.
            resume="allow" if continued_id and self.mode == "online" else None,
            config={**shown_config(config), "environment": dict(environment)},
            allow_val_change=True,
            # Standard output is not captured: launch.log has it, and capturing would break the progress bar.
            settings=wandb.Settings(console="off", silent=self.mode == "offline", init_timeout=_CONNECT_S),
        )

    def log(self, metrics: Mapping[str, Metric], step: int) -> None:
        """Logs the scalars as one row; stores the values of the nodes for :meth:`finish`."""
        if self._run is not None:
            with self._kept_going():
                self._log_row(metrics, step)

    def _log_row(self, metrics: Mapping[str, Metric], step: int) -> None:
        row: dict[str, Any] = {"step": step}
        for name, value in metrics.items():
            if isinstance(value, Sequence):
                self._node_values[name] = [float(item) for item in value]
            else:
                row[name] = value
                self._define(name)
        if self.node_table and self._node_values:
            row["nodes"] = self._table()
        # W&B's own step is set too. It only increases, and W&B already has the steps that a resumed run repeats.
        if step >= self._run.step:
            self._run.log(row, step=step, commit=True)
        self._last_step = step

    def _define(self, name: str) -> None:
        """Keeps the best and the last value of a metric in W&B's summary, where one of its ends is the best."""
        if name in self._defined or name in _X_AXES:
            return
        self._defined.add(name)
        for words, best in ((_LARGEST_IS_BEST, "max"), (_SMALLEST_IS_BEST, "min")):
            if any(word in name for word in words):
                self._run.define_metric(name, step_metric="step", summary=f"{best},last")
                return

    def _table(self) -> Any:
        """One row per node, one column per metric."""
        import wandb

        length = max(len(values) for values in self._node_values.values())
        columns = {name: values for name, values in self._node_values.items() if len(values) == length}
        rows = [[node, *values] for node, values in enumerate(zip(*columns.values(), strict=True))]
        return wandb.Table(columns=["node", *columns], data=rows)

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path]) -> None:
        """Logs histograms over the nodes, the figures as "figures/<stem>", the summary, and the artifacts."""
        if self._run is not None:
            with self._kept_going():
                self._log_end(summary, figures)

    @contextmanager
    def _kept_going(self) -> Iterator[None]:
        """An error of W&B inside the block is told, and does not end a run that may have taken hours."""
        import wandb

        try:
            yield
        except wandb.errors.Error as error:
            _log.warning("W&B could not log after step %d (%s)", self._last_step, _one_line(error))

    def _log_end(self, summary: Mapping[str, Any], figures: Sequence[Path]) -> None:
        import wandb

        media: dict[str, Any] = {f"figures/{figure.stem}": wandb.Image(str(figure)) for figure in figures}
        for name, values in self._node_values.items():
            finite = [value for value in values if math.isfinite(value)]
            if finite:
                media[name] = wandb.Histogram(finite)
        if media:
            self._run.log({"step": self._last_step, **media})
        # Metrics with a best value keep it: their last value is there already.
        self._run.summary.update({name: value for name, value in summary.items() if not self._keeps_best(name)})
        if self.checkpoints and (self._run_folder / "checkpoint").is_dir():
            self._save("checkpoint", "model", lambda path: path.parts[0] == "checkpoint")
        if self.folder:
            self._save("run", "results", lambda path: path.parts[0] not in ("checkpoint", "wandb"))

    def _keeps_best(self, name: str) -> bool:
        return name in self._defined and any(word in name for word in (*_LARGEST_IS_BEST, *_SMALLEST_IS_BEST))

    def _save(self, name: str, kind: str, is_part: Callable[[Path], bool]) -> None:
        """Logs the files below the run folder whose relative path ``is_part`` as one artifact."""
        import wandb

        artifact = wandb.Artifact(f"{name}-{self._run.id}", type=kind)
        for path in sorted(self._run_folder.rglob("*")):
            relative = path.relative_to(self._run_folder)
            if path.is_file() and is_part(relative):
                artifact.add_file(str(path), name=relative.as_posix())
        self._run.log_artifact(artifact)

    def close(self, failed: bool) -> None:
        """Ends the W&B run, as failed (exit code 1) or finished (0); it gets the log of the run."""
        if self._run is not None:
            import wandb

            exit_code = 1 if failed else 0
            if (self._run_folder / _LOG).is_file():
                copy = shutil.copy(self._run_folder / _LOG, self._run.dir)
                self._run.save(str(copy), base_path=self._run.dir, policy="now")
            self._run.finish(exit_code=exit_code)
            self._run = None
            # W&B writes from a process of its own. Wait for it, because this process may end without exit handlers.
            wandb.teardown(exit_code)

    def _folder(self) -> Path:
        return Path(self._run.dir).parent


def _id_of(run_folder: Path) -> str | None:
    """The id of the W&B run of a run folder."""
    path = run_folder / _ID_FILE
    return path.read_text().strip() if path.is_file() else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _refused(error: Exception) -> ValueError:
    return ValueError(
        f"logger=wandb could not start a run ({_one_line(error)}): run `wandb login`, or set logger.mode=offline"
    )
