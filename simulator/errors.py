"""Describes an error as one line, and finds the first cause among the errors of all ranks."""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

SHOWS_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR") == "1"
"""Whether the user asked for tracebacks when the command started."""


_MAX_LISTED = 12
_PLUGINS = {
    "hydra/sweeper=optuna": ("hydra-optuna-sweeper", "optuna"),
    "hydra/launcher=submitit_local": ("hydra-submitit-launcher", "submitit"),
    "hydra/launcher=submitit_slurm": ("hydra-submitit-launcher", "submitit"),
}


class LostProcessError(RuntimeError):
    """The connection to another process broke; ``peer`` is its rank, or -1 when it may be any."""

    def __init__(self, message: str, peer: int) -> None:
        super().__init__(message)
        self.peer = peer


class SilentProcessError(TimeoutError):
    """Another process did not answer within the timeout; ``peer`` is its rank, or -1 when it may be any."""

    def __init__(self, message: str, peer: int) -> None:
        super().__init__(message)
        self.peer = peer


class RunError(RuntimeError):
    """A run that failed on some process, as one line for the user."""


def missing_extra(what: str, package: str, extra: str) -> ValueError:
    """The user error that ``what`` needs a package that an extra of this project installs."""
    return ValueError(f"{what} needs the package {package}, of the extra {extra}: uv pip install '.[{extra}]'")


def describe_error(error: BaseException) -> str:
    """One line for an error: its message for a user error, its type and message for an unexpected error."""
    module = type(error).__module__.partition(".")[0]
    text = str(error)
    if module in ("hydra", "omegaconf"):
        return _describe_composition(text, str(error.__cause__ or ""))
    text = " ".join(text.split())
    written_for_users = isinstance(error, ValueError | FloatingPointError | RunError | TimeoutError | ConnectionError)
    if written_for_users or hasattr(error, "peer"):
        return text
    return f"{type(error).__name__}: {text} (HYDRA_FULL_ERROR=1 shows where)"


def _choices(wrong: str, options: list[str]) -> str:
    """Lists all options, or only those most similar to the wrong one when there are many."""
    if not options:
        return ""
    if len(options) <= _MAX_LISTED:
        return f"; choose one of: {', '.join(options)}"
    alike = difflib.get_close_matches(wrong, options, n=_MAX_LISTED // 2, cutoff=0.0)
    return f"; choose one of its {len(options)}, such as: {', '.join(alike)} (python launch.py --help lists all)"


def _describe_composition(text: str, reason: str) -> str:
    """Shortens the long messages of Hydra and OmegaConf about a command line to one line."""
    unknown = re.search(
        r"Could not find '([^']+)'\s*(?:Available options in '[^']+':\s*(.*?))?\s*(?:Config search|\Z)", text, re.S
    )
    if unknown:
        group, _, choice = unknown[1].rpartition("/")
        if plugin := _PLUGINS.get(f"{group}={choice}"):
            return str(missing_extra(f"{group}={choice}", *plugin))
        listed = _choices(choice, (unknown[2] or "").split())
        return f"{group}={choice}: there is no such file in conf/{group}/{listed}" if group else f"no config {choice}"
    several = re.search(r"Ambiguous value for argument '([^']+)'", text)
    if several:
        return f"{several[1]}: several values are a sweep, for python launch.py -m; a list is written as key=[a,b]"
    key = re.search(r"Could not override '([^']+)'", text)
    if key and "No match in the defaults list" not in text:
        return f"{key[1]}: there is no such key in this configuration (python launch.py --cfg job lists all)"
    added = re.search(
        r"Could not append value to config.*?Key '([^']+)'|Key '([^']+)' (?:not in|is not in)", text, re.S
    )
    if added:
        name = added[1] or added[2]
        return f"{name}: there is no such key in this configuration (python launch.py --cfg job lists all)"
    missing = re.search(r"Missing mandatory value:.*?full_key: (\S+)", text, re.S)
    if missing:
        return f"{missing[1]}: a value is needed, {missing[1]}=..."
    value = re.search(r"Error merging override (\S+)", text)
    if value:
        return f"{value[1]}: {' '.join(reason.splitlines()[:1])}"
    return " ".join(
        re.sub(r"\s*(full_key|object_type|reference_type)[:=].*|See https://hydra.cc\S+.*", "", text).split()
    )


@dataclass(frozen=True)
class Report:
    """Why a job ended on one rank.

    Attributes:
        kind: ``user`` for a user error, ``cause`` for other failures of this rank, ``lost`` when another rank ended,
            ``hung`` when another rank does not answer.
        text: one line.
        suspect: the rank that ended or does not answer; -1 when it is not known.
    """

    kind: str
    text: str
    suspect: int = -1

    @classmethod
    def of(cls, error: BaseException) -> "Report":
        """The report of a rank on which the job ended with ``error``."""
        suspect = int(getattr(error, "peer", -1))
        if isinstance(error, TimeoutError):
            return cls("hung", describe_error(error), suspect)
        if isinstance(error, ConnectionError) or hasattr(error, "peer"):
            return cls("lost", describe_error(error), suspect)
        return cls("user" if isinstance(error, ValueError) else "cause", describe_error(error))

    @property
    def is_cause(self) -> bool:
        """Whether the rank failed by itself."""
        return self.kind in ("user", "cause")

    def as_error(self) -> Exception:
        """The error that every rank raises."""
        return ValueError(self.text) if self.kind == "user" else RunError(self.text)


def find_cause(reports: Mapping[int, Report], silent: set[int]) -> Report:
    """The report that says why a job failed, given those of all ranks but the ``silent`` ones."""
    for _, report in sorted(reports.items()):
        if report.is_cause:
            return report
    by_rank = [report for _, report in sorted(reports.items())]
    # A rank that waits in vain for a peer ends too, and others then wait for it: prefer reports naming a silent rank.
    witnesses = [report for report in by_rank if report.suspect in silent] or by_rank
    witness = next((report for report in witnesses if report.kind == "hung"), witnesses[0])
    suspects = {witness.suspect} & silent or silent
    if not suspects:
        return Report("cause", witness.text)
    names = ", ".join(map(str, sorted(suspects)))
    happened = "does not answer" if witness.kind == "hung" else "died"
    return Report("cause", f"rank {names} {happened}: {witness.text}")
