"""The interface of loggers: they receive a run's start, evaluations, progress and end, on rank 0 only."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Metric = float | Sequence[float]


class Logger(ABC):
    """One destination of a run's metrics; a context manager around the run.

    The order of calls is ``start``, then any number of ``log`` and ``progress``, then ``finish``, and at last, on
    leaving the context, ``close``. A run that raises never reaches ``finish``; it is closed as failed.
    """

    @abstractmethod
    def start(
        self,
        run_folder: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        resume_step: int | None = None,
    ) -> None:
        """Opens what the logger writes to.

        Args:
            run_folder: the run's own folder, which exists.
            config: the resolved configuration, plain dicts, lists and scalars.
            environment: versions, devices, command line and so on, plain values.
            resume_step: the step of the checkpoint that the run continues from; None for a new run.
        """

    @abstractmethod
    def log(self, metrics: Mapping[str, Metric], step: int) -> None:
        """Logs the metrics of one evaluation; a sequence holds one value for every node, shape [M]."""

    def progress(self, step: int, num_steps: int) -> None:
        """Reports that ``step`` of ``num_steps`` steps are completed; called often, so it has to be cheap."""

    def finish(self, summary: Mapping[str, Any], figures: Sequence[Path]) -> None:
        """Logs the summary and the figures of a finished run."""

    @abstractmethod
    def close(self, failed: bool) -> None:
        """Releases what ``start`` opened; called exactly once, also when ``start`` was not called."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close(failed=kind is not None)
