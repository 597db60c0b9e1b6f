import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from simulator import figures
from simulator.figures.curves import _collect
from simulator.graphs.base import Edges, Graph


class Circle(Graph):
    directed = False
    stochasticity = "double"

    def edges(self, step: int) -> Edges:
        nodes = np.arange(self.num_nodes)
        matrix = np.zeros((self.num_nodes, self.num_nodes))
        for shift in (-1, 0, 1):
            matrix[nodes, (nodes + shift) % self.num_nodes] += 1 / 3
        return Edges.from_matrix(matrix)


class Alternating(Graph):
    directed = True
    stochasticity = "column"

    @property
    def period(self) -> int | None:
        return None

    def edges(self, step: int) -> Edges:
        nodes = np.arange(self.num_nodes)
        matrix = 0.5 * np.eye(self.num_nodes)
        matrix[(nodes + 1 + step % 2) % self.num_nodes, nodes] += 0.5
        return Edges.from_matrix(matrix)


class Isolated(Circle):
    mixes = False

    def edges(self, step: int) -> Edges:
        return Edges.from_matrix(np.eye(self.num_nodes))


def records_of(num_records: int = 5) -> list[dict[str, Any]]:
    return [
        {
            "step": 10 * index,
            "train/loss": 2.0 * 0.5**index,
            "test/accuracy": 0.2 + 0.1 * index,
            "test/accuracy_p10": 0.1 + 0.1 * index,
            "test/accuracy_nodes": [0.1, 0.2, 0.3],
            "consensus_distance": 0.0 if index == 0 else 0.1**index,
            "hypergradient/error": 0.3**index,
            "comm/bytes": 1_000_000 * index,
            "time/sim_s": 2.5 * index,
            "time/idle_share": 0.25,
        }
        for index in range(num_records)
    ]


def without(records: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in record.items() if key not in keys} for record in records]


def look(path: Path | None) -> np.ndarray:
    """The picture's pixels, [height, width, 3], after making sure that there is something on them."""
    assert path is not None
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    assert min(pixels.shape[:2]) >= 300
    assert pixels.std() > 5.0
    assert 0.002 < (pixels.min(axis=2) < 200).mean() < 0.9, "neither blank nor full"
    border = np.concatenate([pixels[:2].ravel(), pixels[-2:].ravel(), pixels[:, :2].ravel(), pixels[:, -2:].ravel()])
    assert border.min() > 200, "nothing is cut off at the edge"
    return pixels


def has_colour(pixels: np.ndarray, colour: str) -> bool:
    wanted = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
    return int((np.abs(pixels.astype(int) - wanted).max(axis=2) <= 3).sum()) > 50


CURVES: dict[Callable[[Any, Path], Path | None], tuple[str, ...]] = {
    figures.accuracy_against_steps: ("test/accuracy", "test/accuracy_p10"),
    figures.accuracy_against_bytes: ("test/accuracy", "test/accuracy_p10"),
    figures.accuracy_against_simulated_time: ("test/accuracy", "test/accuracy_p10"),
    figures.loss: ("train/loss",),
    figures.loss_against_simulated_time: ("train/loss",),
    figures.consensus_distance: ("consensus_distance",),
    figures.hypergradient_error: ("hypergradient/error",),
}


@pytest.mark.parametrize(("draw", "keys"), CURVES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_curve_is_drawn_or_left_out(draw: Callable[[Any, Path], Path | None], keys: tuple, tmp_path: Path) -> None:
    path = tmp_path / "new" / "curve.png"
    absent = tmp_path / "absent.png"
    for too_little in (
        [],
        records_of(1),
        without(records_of(), *keys),
        [record | dict.fromkeys(keys, math.nan) for record in records_of()],
        [record | dict.fromkeys(keys, 0.0) for record in records_of()],
    ):
        assert draw(too_little, absent) is None
    assert not absent.exists()
    assert draw(records_of(), path) == path
    pixels = look(path)
    assert has_colour(pixels, "#0072B2")
    assert has_colour(pixels, "#D55E00") == (len(keys) == 2)


def test_accuracy_without_the_percentile_has_one_line(tmp_path: Path) -> None:
    records = without(records_of(), "test/accuracy_p10")
    pixels = look(figures.accuracy_against_steps(records, tmp_path / "a.png"))
    assert has_colour(pixels, "#0072B2")
    assert not has_colour(pixels, "#D55E00")


def test_no_bytes_no_picture_against_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert figures.accuracy_against_bytes(without(records_of(), "comm/bytes"), path) is None
    assert figures.accuracy_against_bytes([record | {"comm/bytes": 0} for record in records_of()], path) is None


def test_without_clocks_there_is_no_picture_against_simulated_time(tmp_path: Path) -> None:
    records = without(records_of(), "time/idle_share")
    assert figures.accuracy_against_simulated_time(records, tmp_path / "a.png") is None
    assert figures.loss_against_simulated_time(records, tmp_path / "a.png") is None


@pytest.mark.parametrize("num_nodes", [2, 16, 300])
def test_idle_share(num_nodes: int, tmp_path: Path) -> None:
    look(figures.idle_share(np.linspace(0.0, 0.8, num_nodes), tmp_path / "a.png"))
    assert figures.idle_share(np.zeros(num_nodes), tmp_path / "none.png") is None


def test_timeline(tmp_path: Path) -> None:
    spans = [("computing", node, 0.0, 1.0 + node) for node in range(3)] + [("waiting", 0, 1.0, 2.5)]
    pixels = look(figures.timeline(spans, tmp_path / "a.png"))
    assert has_colour(pixels, "#5AA2CE")
    assert has_colour(pixels, "#D8D8D8")
    assert figures.timeline([], tmp_path / "none.png") is None


def test_curves_show_the_numbers_of_the_records() -> None:
    records = [*records_of(4), {"step": 40, "test/accuracy": math.inf}, {"step": 50, "test/accuracy": [0.5]}]
    lines = _collect(records, "comm/bytes", {"test/accuracy": "mean"}, x_unit=1e-6, y_unit=100.0)
    assert list(lines) == ["mean"]
    np.testing.assert_allclose(lines["mean"], ([0.0, 1.0, 2.0, 3.0], [20.0, 30.0, 40.0, 50.0]), rtol=1e-12)
    (line,) = _collect(records, "step", {"consensus_distance": "d"}, positive=True).values()
    np.testing.assert_allclose(line, ([10.0, 20.0, 30.0], [1e-1, 1e-2, 1e-3]), rtol=1e-12)


@pytest.mark.parametrize("num_nodes", [3, 100, 1000])
def test_per_node_accuracy(num_nodes: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).uniform(0.3, 0.9, num_nodes)
    values[0] = math.nan
    look(figures.per_node_accuracy(values, tmp_path / "a.png"))


@pytest.mark.parametrize("values", [[], [0.5], [math.nan, 0.5], [0.0, 0.0, 0.0]])
def test_per_node_accuracy_is_left_out(values: list[float], tmp_path: Path) -> None:
    assert figures.per_node_accuracy(values, tmp_path / "a.png") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("num_nodes", "num_classes"), [(2, 2), (16, 10), (100, 10), (30, 100), (300, 10)])
def test_partition(num_nodes: int, num_classes: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    shares = generator.dirichlet(np.full(num_classes, 0.3), size=num_nodes)
    look(figures.partition(generator.multinomial(500, shares), tmp_path / "a.png"))


def test_partition_pictures_what_is_held(tmp_path: Path) -> None:
    """All nodes hold class 0 only, or all hold everything: more ink in the second."""
    alone = np.zeros((8, 10), dtype=np.int64)
    alone[:, 0] = 100
    green = [
        (
            np.abs(look(figures.partition(counts, tmp_path / "a.png")).astype(int) - [38, 173, 136]).max(axis=2) < 12
        ).sum()
        for counts in (alone, np.full((8, 10), 100))
    ]
    assert green[0] > 0
    np.testing.assert_allclose(green[1] / green[0], 10.0, rtol=0.1)


@pytest.mark.parametrize("counts", [np.zeros((4, 10)), np.ones((1, 10)), np.ones((4, 1)), np.ones(4)])
def test_partition_is_left_out(counts: np.ndarray, tmp_path: Path) -> None:
    assert figures.partition(counts, tmp_path / "a.png") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "graph",
    [Circle(num_nodes=3), Circle(num_nodes=16), Circle(num_nodes=100), Alternating(num_nodes=5)],
    ids=lambda graph: f"{type(graph).__name__}{graph.num_nodes}",
)  # fmt: skip
def test_graph_and_mixing_matrix(graph: Graph, tmp_path: Path) -> None:
    pixels = look(figures.graph_and_mixing_matrix(graph, tmp_path / "a.png"))
    assert has_colour(pixels, "#0072B2") == (graph.num_nodes <= 60), "nodes are drawn for small graphs only"


def test_a_schedule_is_drawn_from_the_asked_step(tmp_path: Path) -> None:
    even, odd, later = (
        look(figures.graph_and_mixing_matrix(Alternating(num_nodes=4), tmp_path / f"{step}.png", step=step))
        for step in (0, 1, 1)
    )
    assert even.shape == odd.shape
    assert (even != odd).any()
    np.testing.assert_array_equal(odd, later)


@pytest.mark.parametrize("graph", [Circle(num_nodes=1), Isolated(num_nodes=8), Circle(num_nodes=401)])
def test_graph_is_left_out(graph: Graph, tmp_path: Path) -> None:
    assert figures.graph_and_mixing_matrix(graph, tmp_path / "a.png") is None
    assert list(tmp_path.iterdir()) == []


def test_a_graph_of_a_hundred_thousand_nodes_costs_nothing(tmp_path: Path) -> None:
    class Huge(Circle):
        def edges(self, step: int) -> Edges:
            raise AssertionError("not even asked for")

    assert figures.graph_and_mixing_matrix(Huge(num_nodes=100_000), tmp_path / "a.png") is None


def test_write_all_draws_what_is_there(tmp_path: Path) -> None:
    facts = figures.RunFacts(
        graph=Circle(num_nodes=4), label_counts=np.arange(40).reshape(4, 10), per_node_accuracy=np.array([0.5, 0.6])
    )
    written = figures.write_all(tmp_path, without(records_of(), "time/idle_share"), facts)
    assert [path.stem for path in written] == [
        "accuracy_against_steps", "accuracy_against_bytes", "loss", "consensus_distance", "hypergradient_error",
        "per_node_accuracy", "graph_and_mixing_matrix", "partition",
    ]  # fmt: skip
    assert sorted(written) == sorted((tmp_path / "figures").iterdir())


def test_write_all_draws_simulated_time_where_nodes_have_clocks(tmp_path: Path) -> None:
    facts = figures.RunFacts(idle_shares=np.array([0.5, 0.0]), spans=[("computing", 0, 0.0, 1.0)])
    written = {path.stem for path in figures.write_all(tmp_path, records_of(), facts)}
    plain = figures.write_all(tmp_path, without(records_of(), "time/idle_share"), figures.RunFacts())
    expected = {"accuracy_against_simulated_time", "loss_against_simulated_time", "idle_share", "timeline"}
    assert written - {path.stem for path in plain} == expected


def test_write_all_leaves_the_rest_out(tmp_path: Path) -> None:
    assert figures.write_all(tmp_path, records_of(1), figures.RunFacts()) == []
    assert not (tmp_path / "figures").exists()
    records = [{"step": step, "outer/loss": 1.0 + step} for step in range(3)]
    assert figures.write_all(tmp_path, records, figures.RunFacts()) == [tmp_path / "figures" / "loss.png"]


def test_drawing_leaves_no_global_state_behind(tmp_path: Path) -> None:
    # Reading the setting "backend" would itself import pyplot.
    program = (
        "import sys, pathlib; from simulator import figures; import matplotlib\n"
        "settings = lambda: {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != 'backend'}\n"
        "before = settings()\n"
        "records = [{'step': step, 'train/loss': 1.0 + step} for step in range(3)]\n"
        f"assert figures.write_all(pathlib.Path({str(tmp_path)!r}), records, figures.RunFacts())\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert settings() == before\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_no_consensus_is_drawn_where_nodes_are_not_meant_to_agree(tmp_path: Path) -> None:
    drawn = {path.stem for path in figures.write_all(tmp_path / "a", records_of(), figures.RunFacts())}
    apart = {
        path.stem for path in figures.write_all(tmp_path / "b", records_of(), figures.RunFacts(has_consensus=False))
    }
    assert drawn - apart == {"consensus_distance"}


def test_bars_have_the_numbers_of_their_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    def keep(figure: Any, path: Path) -> Path:
        shown.append([label.get_text() for label in figure.axes[0].get_xticklabels()])
        return path

    monkeypatch.setattr("simulator.figures.nodes.save", keep)
    figures.per_node_accuracy([0.5, 0.25, math.nan, 0.75], tmp_path / "x.png")
    assert shown == [["1", "0", "3"]]


def test_captions_and_pdfs_only_inside(tmp_path: Path) -> None:
    from simulator.figures.style import captioned, new_figure, save

    with captioned("sgp on ring", with_pdf=True):
        save(inside := new_figure(), tmp_path / "inside.png")
    save(outside := new_figure(), tmp_path / "outside.png")
    assert inside.get_supxlabel() == "sgp on ring"
    assert outside.get_supxlabel() == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inside.pdf", "inside.png", "outside.png"]
    with captioned("sgp on ring", with_pdf=True):
        save(new_figure(), tmp_path / "again.png")
    assert (tmp_path / "again.pdf").read_bytes() == (tmp_path / "inside.pdf").read_bytes()
