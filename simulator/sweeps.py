"""The end of a sweep: tables and a picture of all its runs, in its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback


class SweepFolder(Callback):
    """Hydra's callback that keeps the folder of the sweep, whichever sweeper and launcher run it.

    Args:
        report: whether the sweep ends with ``report.html``; takes some seconds.
    """

    folder: Path | None = None
    with_report: bool = False

    def __init__(self, report: bool = False) -> None:
        SweepFolder.with_report = report

    def on_multirun_start(self, config: Any, **kwargs: Any) -> None:
        """Called once, before the sweeper runs the first job."""
        SweepFolder.folder = Path(config.hydra.sweep.dir).resolve()


def summarize_sweep(folder: Path, objectives: Sequence[str] = (), *, with_report: bool = False) -> str:
    """Writes ``sweep.csv`` (a row per setting), ``runs.csv`` (a row per run), ``sweep.png`` and ``sweep.pdf``.

    The numbers are those of ``scripts/table.py``: means and standard deviations over seeds.

    Args:
        folder: of the sweep.
        objectives: what the sweeper tunes, as named in ``summary.json``; shown first, and drawn.
        with_report: whether ``report.html`` is written as well.

    Returns:
        What the console shows: the table in Markdown, and where the files are. Empty for a sweep that has one run only,
        or no metrics; nothing is written then.
    """
    from simulator import tables
    from simulator.results import load_runs
    from simulator.summary import FILE_NAME as SUMMARY

    if not any(folder.rglob(SUMMARY)):
        return ""
    runs = load_runs(folder)
    done = [run for run in runs if run.summary is not None]
    if len(runs) < 2 or not done:
        return ""
    at = tables.which_evaluation(done, None)
    known = {name for run in done for name in tables.numbers(run, at)}
    tuned = [name.removeprefix("best/") for name in objectives] or ["valid/accuracy"]
    tuned = [name for name in tuned if name in known]
    metrics = list(dict.fromkeys([*tuned, *tables.default_metrics(known)]))
    if not metrics:
        return ""
    groups = tables.by_setting(done, ignored=tables.NEVER_A_SETTING)
    frame = tables.table(groups, at, metrics)
    frame.to_csv(folder / "sweep.csv", index=False)
    runs.table().to_csv(folder / "runs.csv")
    written = ["sweep.csv", "runs.csv"]
    if _draw(folder, frame, tables.column(metrics[0], at)) is not None:
        written += ["sweep.png", "sweep.pdf"]
    lines = [tables.to_markdown(frame).rstrip(), tables.repeated_seeds(groups)]
    if missing := len(runs) - len(done):
        lines.append(f"{missing} of {len(runs)} runs have not finished and are left out")
    if with_report:
        from simulator.report import write_report

        try:
            written.append(write_report(folder).name)
        except ValueError as error:
            lines.append(f"no page of the sweep: {error}")
    lines.append(f"{', '.join(written)} in {folder}")
    return "\n".join(line for line in lines if line)


def _draw(folder: Path, frame: Any, metric: str) -> Path | None:
    from simulator.figures.style import captioned
    from simulator.figures.sweep import metric_by_setting

    names = list(frame.columns)
    settings = {name: list(frame[name]) for name in names[: next(i for i, name in enumerate(names) if "/" in name)]}
    mean, deviation = (frame[name].to_numpy(dtype=float) for name in (metric, f"{metric} std"))
    with captioned(f"{folder.parent.name}/{folder.name}", with_pdf=True):
        return metric_by_setting(settings, mean, deviation, metric, folder / "sweep.png")
