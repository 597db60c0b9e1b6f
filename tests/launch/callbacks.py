"""A callback of Hydra that writes down what it is told about jobs."""

import os
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback


class Told(Callback):
    """Appends "status objective" of every job to the file that TOLD names."""

    def on_job_end(self, config: Any, job_return: JobReturn, **kwargs: Any) -> None:
        failed = isinstance(job_return._return_value, BaseException)
        value = type(job_return._return_value).__name__ if failed else job_return._return_value
        with Path(os.environ["TOLD"]).open("a") as file:
            file.write(f"{job_return.status.name} {value}\n")
