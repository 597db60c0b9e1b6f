"""A workspace and a report on Weights & Biases for the runs of a project, by one command.

    python scripts/wandb_dashboard.py --entity my-team --project hypergossip
    python scripts/wandb_dashboard.py --entity my-team --project hypergossip --group 2026-01-31_12-00-00 --print

It needs the package wandb-workspaces (the extra ``dashboard``) and a login. ``--print`` writes both as JSON
to standard output, needs no login and sends nothing. Runs are grouped by algorithm and graph, so seeds become bands.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from simulator.errors import missing_extra  # noqa: E402

# Sections in the order in which they are read: title, metrics, x-axes.
CHARTS: dict[str, tuple[list[str], list[str]]] = {
    "Accuracy": (["test/accuracy", "valid/accuracy"], ["step", "comm/bytes", "time/sim_s"]),
    "Loss": (["train/loss", "test/loss", "outer/loss"], ["step", "comm/bytes", "time/sim_s"]),
    "Hypergradient": (["hypergradient/error", "hypergradient/norm", "outer/grad_norm"], ["step", "comm/bytes"]),
    "Consensus": (["consensus_distance"], ["step", "comm/bytes"]),
    "Communication": (["comm/bytes", "comm/messages", "comm/wire_bytes"], ["step"]),
    "Simulated time": (["time/sim_s", "time/idle_share", "staleness/mean"], ["step"]),
    "Speed": (["throughput/node_steps_per_s", "time/wall_s"], ["step"]),
}
GROUPED_BY = ("algorithm.name", "graph.name")
AXIS_NAMES = {"step": "step", "comm/bytes": "bytes sent", "time/sim_s": "simulated seconds"}


def panels_of(metrics: Sequence[str], axes: Sequence[str], reports: Any) -> list[Any]:
    """One chart for every metric and x-axis."""
    return [
        reports.LinePlot(
            title=f"{metric} against {AXIS_NAMES[axis]}",
            x=axis,
            y=[metric],
            log_y=metric.endswith(("distance", "error", "grad_norm")),
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
        for metric in metrics
        for axis in axes
    ]


def build_workspace(entity: str, project: str, group: str | None) -> Any:
    """The workspace: one section of charts for each kind of metric, the first two open."""
    reports = importlib.import_module("wandb_workspaces.reports.v2")  # it does not declare what it exports
    import wandb_workspaces.workspaces as workspaces

    sections = [
        workspaces.Section(name=title, panels=panels_of(metrics, axes, reports), is_open=number < 2)
        for number, (title, (metrics, axes)) in enumerate(CHARTS.items())
    ]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"hypergossip {group or 'runs'}",
        sections=sections,
        runset_settings=workspaces.RunsetSettings(
            groupby=[workspaces.Config(key) for key in GROUPED_BY],
            filters=f"Metric('Group') == '{group}'" if group else "",
            order=[workspaces.Ordering(workspaces.Metric("CreatedTimestamp"), ascending=False)],
        ),
    )


def build_report(entity: str, project: str, group: str | None) -> Any:
    """The report: accuracy for steps, bytes and seconds, then what it took, over the same groups."""
    reports = importlib.import_module("wandb_workspaces.reports.v2")  # it does not declare what it exports

    def runs() -> list[Any]:
        return [
            reports.Runset(
                entity=entity,
                project=project,
                name=group or "all runs",
                filters=f"Metric('Group') == '{group}'" if group else "",
                groupby=[f"config.{key}" for key in GROUPED_BY],
            )
        ]

    blocks: list[Any] = [reports.TableOfContents()]
    for title, (metrics, axes) in CHARTS.items():
        grid = reports.PanelGrid(runsets=runs(), panels=panels_of(metrics[:1], axes, reports))
        blocks += [reports.H1(title), grid]
    return reports.Report(
        entity=entity,
        project=project,
        title=f"hypergossip: {group or project}",
        description="Lines are means over the runs of an algorithm on a graph, bands one standard deviation.",
        blocks=blocks,
        width="fluid",
    )


def as_json(part: Any) -> Any:
    """What would be sent for a workspace or a panel."""
    return part._to_model().model_dump(mode="json")


def report_as_json(report: Any) -> dict[str, Any]:
    """Title and panels by heading; W&B adds the ids of the project when the report is saved."""
    sections, heading = {}, ""
    for block in report.blocks:
        heading = getattr(block, "text", heading)
        if hasattr(block, "panels"):
            sections[heading] = [as_json(panel) for panel in block.panels]
    return {"title": report.title, "sections": sections}


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes or prints both; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--entity", required=True, help="user or team on W&B")
    parser.add_argument("--project", default="hypergossip", help="project on W&B")
    parser.add_argument("--group", help="only the runs of this group, such as the name of a sweep's folder")
    parser.add_argument("--print", action="store_true", dest="prints", help="print both as JSON and send nothing")
    chosen = parser.parse_args(arguments)
    try:
        workspace = build_workspace(chosen.entity, chosen.project, chosen.group)
        report = build_report(chosen.entity, chosen.project, chosen.group)
    except ImportError:
        print(missing_extra("this script", "wandb-workspaces", "dashboard"), file=sys.stderr)
        return 1
    if chosen.prints:
        print(json.dumps({"workspace": as_json(workspace), "report": report_as_json(report)}, indent=1))
        return 0
    print(workspace.save().url)
    print(report.save().url)
    return 0


if __name__ == "__main__":
    sys.exit(main())
