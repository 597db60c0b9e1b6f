"""What follows from a run's configuration and is not stored: its first matrices W_t, and its label counts by node."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from simulator import config
from simulator.errors import describe_error
from simulator.figures.graph import describe_schedule
from simulator.graphs.base import Edges, Graph
from simulator.report.curves import rounded

T = TypeVar("T")

MOST_ROUNDS = 16
MOST_EDGES = 60_000
"""Entries of all matrices of a page together, about fifteen bytes each."""
MOST_COUNTS = 60_000
"""Label counts of a page together."""

Described = dict[str, Any]
Settings = Mapping[str, Any]
_GRAPH = ("graph", "faults", "num_nodes")
_DATA = ("problem", "dataset", "partition", "model", "num_nodes", "seed")


class Recomputed:
    """Schedules and partitions of runs, each once, and why a run has none.

    Attributes:
        schedules: the distinct ones: what they are, and the entries of their first rounds.
        partitions: the distinct label counts, [M, C] each.
        schedule_of: for every run the position among ``schedules``, or a line that says why there is none.
        partition_of: the same for ``partitions``.
    """

    def __init__(self, configs: Sequence[Settings]) -> None:
        self.schedules: list[Described] = []
        self.partitions: list[list[list[int]]] = []
        self._edges_left, self._counts_left = MOST_EDGES, MOST_COUNTS
        with _silent():
            keys = [_tried(partial(_schedule_key, each)) for each in configs]
            self._share = MOST_EDGES // max(1, len(set(keys)))
            self.schedule_of = _once(configs, keys, self._add_schedule)
            self.partition_of = _once(configs, [_key(each, _DATA) for each in configs], self._add_partition)

    def _add_schedule(self, settings: Settings) -> int | str:
        components = config.build(settings)
        if components.graph.needs_label_counts:
            _set_up(components, settings)
            config.finish_graph(components)
        graph = components.graph
        rounds = self._first_rounds(graph)
        if not rounds:
            return f"the matrices of {graph.description} on {graph.num_nodes} nodes are too large for the page"
        return _place_of(
            {
                "description": describe_schedule(graph, max(int(sum(e.source != e.target)) for e in rounds)),
                "num_nodes": graph.num_nodes,
                "directed": graph.directed,
                "period": graph.period,
                "rounds": [
                    {
                        "source": edges.source.tolist(),
                        "target": edges.target.tolist(),
                        "weight": [rounded(weight, 4) for weight in edges.weight.tolist()],
                    }
                    for edges in rounds
                ],
            },
            self.schedules,
        )

    def _first_rounds(self, graph: Graph) -> list[Edges]:
        """As many as a fair share of the page holds; one where only that fits at all."""
        rounds: list[Edges] = []
        spent = 0
        for step in range(min(graph.period or MOST_ROUNDS, MOST_ROUNDS)):
            edges = graph.edges(step)
            limit = min(self._share, self._edges_left) if rounds else self._edges_left
            if spent + len(edges.source) > limit:
                break
            rounds.append(edges)
            spent += len(edges.source)
        self._edges_left -= spent
        return rounds

    def _add_partition(self, settings: Settings) -> int | str:
        components = config.build(settings)
        if not components.problem.uses_data:
            return f"{type(components.problem).__name__} has no samples with labels"
        _set_up(components, settings)
        counts = components.problem.facts().label_counts
        if counts is None:
            return f"{type(components.problem).__name__} does not tell its label counts"
        if counts.size > self._counts_left:
            return f"the label counts of {len(counts)} nodes and {counts.shape[1]} classes are too many for the page"
        self._counts_left -= counts.size
        return _place_of(counts.tolist(), self.partitions)


def _place_of(entry: T, entries: list[T]) -> int:
    """The position of an entry; appended if it is new, which static graphs of two seeds are not."""
    if entry not in entries:
        entries.append(entry)
    return entries.index(entry)


def _once(configs: Sequence[Settings], keys: Sequence[str], add: Callable[[Settings], int | str]) -> list[int | str]:
    """What ``add`` returns, or why it fails, for every configuration; called once for those with equal keys."""
    known: dict[str, int | str] = {}
    for key, settings in zip(keys, configs, strict=True):
        if key not in known:
            known[key] = _tried(partial(add, settings))
    return [known[key] for key in keys]


def _tried(function: Callable[[], T]) -> T | str:
    """The result, or one line about what failed: old configurations and classes of users may raise anything."""
    try:
        return function()
    except Exception as error:
        return describe_error(error)


def _schedule_key(settings: Settings) -> str:
    """Equal for configurations with the same schedule."""
    by_labels = config.build(settings).graph.needs_label_counts
    return _key(settings, (*_GRAPH, *_DATA) if by_labels else _GRAPH)


def _key(settings: Settings, names: Sequence[str]) -> str:
    return json.dumps({name: settings.get(name) for name in names}, sort_keys=True, default=str)


def _set_up(components: config.Components, settings: Settings) -> None:
    """Reads the data of one node, which gives the label counts of all; downloads nothing."""
    import torch

    from simulator.problems.base import Setting

    components.problem.setup(
        Setting(
            nodes=range(1),
            num_nodes=settings["num_nodes"],
            seed=settings["seed"],
            dtype=getattr(torch, settings["dtype"]),
            device=torch.device("cpu"),
            dataset=components.dataset,
            partition=components.partition,
            build_model=components.build_model,
            compute="loop",
        )
    )


@contextmanager
def _silent() -> Iterator[None]:
    """Warnings that the run has given already are not given again."""
    logger = logging.getLogger("simulator")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
