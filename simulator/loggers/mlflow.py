"""MLflow: one run per run, with parameters, metrics, figures and files, on a server or in a local store.

Needs the package mlflow, or mlflow-skinny with a server.
"""

import importlib.util
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.errors import missing_extra
from simulator.loggers.base import Logger, Metric
from simulator.loggers.run_description import run_name, shown_config, sweep_folder

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_log = logging.getLogger(__name__)
_ID_FILE = "mlflow_run_id.txt"
_LONGEST_VALUE = 500
_FILES = ("config.yaml", "environment.json", "summary.json", "launch.log")


class MlflowLogger(Logger):
    """One MLflow run per run. A resumed run continues the MLflow run of the run folder that it resumes.

    Args:
        tracking_uri: server or store, such as http://host:5000 or sqlite:///mlflow.db; None for the variable
            MLFLOW_TRACKING_URI, or else MLflow's default.
        experiment: name of MLflow's experiment; it is made when there is none.
        name: name of the run; None for algorithm, graph, seed, and what else is swept in a multirun.
        tags: tags of the run.

    Raises:
        ValueError: when the package is not installed; from :meth:`start`, when the store cannot be used.
    """

    def __init__(self, *, tracking_uri: str | None, experiment: str, name: str | None, tags: Mapping[str, str]) -> None:
        if importlib.util.find_spec("mlflow") is None:
            raise missing_extra("logger=mlflow", "mlflow", "mlflow")
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.name = name
        self.tags = dict(tags)
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._run_folder = Path()

    def start(
        self,
        run_folder: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        resume_step: int | None = None,
    ) -> None:
        """Makes or continues the run, and logs the configuration as its parameters."""
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self._run_folder = run_folder
        sweep = sweep_folder(run_folder)
        tags = {**self.tags, "mlflow.runName": self.name or run_name(config, run_folder)}
        tags |= {"sweep": sweep.name} if sweep else {}
        continued = Path(config.get("resume") or run_folder) / _ID_FILE if resume_step is not None else None
        try:
            client = MlflowClient(self.tracking_uri)
            if continued is not None and continued.is_file():
                self._run_id = continued.read_text().strip()
                client.update_run(self._run_id, status="RUNNING")
            else:
                found = client.get_experiment_by_name(self.experiment)
                experiment_id = found.experiment_id if found else client.create_experiment(self.experiment)
                self._run_id = client.create_run(experiment_id, tags=tags).info.run_id
                params = [Param(key, str(value)[:_LONGEST_VALUE]) for key, value in _flat(shown_config(config))]
                for first in range(0, len(params), 100):
                    client.log_batch(self._run_id, params=params[first : first + 100])
        except (MlflowException, OSError) as error:
            raise ValueError(
                f"logger=mlflow: the store {self.tracking_uri or 'of MLflow'} cannot be used ({_one_line(error)}); "
                "set logger.tracking_uri"
            ) from error
        self._client = client
        (run_folder / _ID_FILE).write_text(f"{self._run_id}\n")
        _log.info("MLflow run %s", self._run_id)

    def log(self, metrics: Mapping[str, Metric], step: int) -> None:
        """Logs the scalars of one evaluation as one batch."""
        from mlflow.entities import Metric as Logged

        now_ms = int(time.time() * 1000)
        scalars = {name: float(value) for name, value in metrics.items() if not isinstance(value, Sequence)}
        if self._client is not None:
            with self._kept_going():
                batch = [Logged(name, value, now_ms, step) for name, value in scalars.items()]
                self._client.log_batch(self._run_id, metrics=batch)

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path]) -> None:
        """Logs the best evaluation, the figures and the files of the run."""
        if self._client is None:
            return
        with self._kept_going():
            for name, value in summary.items():
                if name.startswith("best/") and isinstance(value, int | float):
                    self._client.log_metric(self._run_id, name, float(value))
            for figure in figures:
                self._client.log_artifact(self._run_id, str(figure), "figures")
            for name in _FILES:
                if (self._run_folder / name).is_file():
                    self._client.log_artifact(self._run_id, str(self._run_folder / name))

    def close(self, failed: bool) -> None:
        """Ends the run, as failed or finished."""
        if self._client is not None:
            with self._kept_going():
                self._client.set_terminated(self._run_id, "FAILED" if failed else "FINISHED")
            self._client = None

    @contextmanager
    def _kept_going(self) -> Iterator[None]:
        """An error of MLflow inside the block is told, and does not end a run that may have taken hours."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:
            _log.warning("MLflow could not log (%s)", _one_line(error))


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by dotted key."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
