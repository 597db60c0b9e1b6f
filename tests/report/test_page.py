"""The page in a real browser: it loads without errors, and its choices, filters and sliders do what they say."""

import chromium
import pytest
from folders import write_run, write_sweep

from simulator.report import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.PATH is None, reason="no Chromium is installed, which opens the page"),
]
TRACES = "document.getElementById('curve-plot').data"
LINES = f"{TRACES}.filter(t => t.fill !== 'toself')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def sweep_page(tmp_path_factory, composed):
    folder = tmp_path_factory.mktemp("sweep")
    records = write_sweep(folder, composed)
    return write_report(folder), records


@pytest.fixture
def page(browser, sweep_page):
    browser.errors.clear()
    browser.requested.clear()
    browser.open(sweep_page[0])
    yield browser
    assert browser.errors == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in browser.requested)


def choose(page, where, label, value):
    """Chooses in the select with a label, as a user does; the value must be one of its options."""
    found = page.run(
        f"""(() => {{
          const labels = [...document.querySelectorAll('#{where} label')];
          const label = labels.find(l => l.firstChild.textContent === '{label}');
          const box = label.querySelector('select');
          box.value = '{value}';
          box.dispatchEvent(new Event('change'));
          return box.value;
        }})()"""
    )
    assert found == value


def column(page, name):
    """The texts of a column of the table of runs."""
    return page.run(
        f"""(() => {{
          const cells = [...document.querySelectorAll('#run-table thead th')];
          const heads = cells.map(h => h.textContent.replace(/ [▲▼]$/, ''));
          const place = heads.indexOf('{name}');
          return [...document.querySelectorAll('#run-table tbody tr')].map(r => r.children[place].textContent);
        }})()"""
    )


def test_curves_are_means_with_bands_and_follow_the_choice_of_axis_and_metric(page, sweep_page):
    _, records = sweep_page
    assert page.run(f"{TRACES}.length") == 4  # a line and a band for each of two settings
    ring = [run for run in records if run[-1]["test/accuracy"] > 0.8]
    y = page.run(f"{LINES}.find(t => t.name === 'ring').y")
    means = [100 * sum(run[place]["test/accuracy"] for run in ring) / 3 for place in range(len(ring[0]))]
    assert y == [pytest.approx(value, rel=1e-6) for value in means]
    for axis, factor in (
        ("comm/bytes", 1e-6),
        ("time/wall_s", 1),
        ("time/sim_s", 1),
        ("oracle/gradients", 1),
        ("step", 1),
    ):
        choose(page, "curve-controls", "Against", axis)
        x = page.run(f"{LINES}.find(t => t.name === 'ring').x")
        assert x == [pytest.approx(factor * record[axis], rel=1e-6) for record in ring[0]]
    choose(page, "curve-controls", "Metric", "train/loss")
    band = page.run(f"{TRACES}.find(t => t.fill === 'toself').y")
    highs = [max(run[place]["train/loss"] for run in records[3:]) for place in range(len(ring[0]))]
    assert band[: len(highs)] == [pytest.approx(value, rel=1e-6) for value in highs]
    assert page.run("document.querySelector('#curve-plot .ytitle').textContent") == "train/loss"
    choose(page, "curve-controls", "Lines", "runs")
    assert page.run(f"{TRACES}.length") == 6


def test_missing_values_and_values_on_a_logarithmic_axis(page, sweep_page):
    choose(page, "curve-controls", "Metric", "hypergradient/error")
    assert page.run(f"{LINES}.map(t => t.x)") == [[0, 100, 200]] * 2
    choose(page, "curve-controls", "Metric", "consensus_distance")
    assert page.run(f"{LINES}.map(t => t.x)") == [[0, 20, 40]] * 2
    assert page.run("document.getElementById('curve-plot').layout.yaxis.type") == "log"


def test_filters_words_and_the_legend(page):
    choose(page, "filter-controls", "graph", "ring")
    assert column(page, "run") == ["ring_0", "ring_1", "ring_2"]
    assert page.run(f"{LINES}.map(t => t.name)") == ["ring"]
    assert page.run("document.getElementById('shown').textContent") == "3 of 6 runs are shown"
    choose(page, "filter-controls", "seed", "1")
    assert column(page, "run") == ["ring_1"]
    page.run("[...document.querySelectorAll('button')].find(b => b.textContent === 'Show all').click()")
    assert len(column(page, "run")) == 6
    page.run("(() => { const b = document.querySelector('input[type=search]'); b.value = 'directed seed=2';"
             "b.dispatchEvent(new Event('input')); })()")  # fmt: skip
    assert column(page, "run") == ["random_directed_2"]
    page.run("[...document.querySelectorAll('button')].find(b => b.textContent === 'Show all').click()")
    page.run("[...document.querySelectorAll('#legend button')].find(b => b.textContent === 'ring').click()")
    assert page.run(f"{LINES}.map(t => t.name)") == ["random_directed"]
    assert page.run("document.getElementById('node-plot').data.map(t => t.name)") == ["random_directed"]
    page.run("document.querySelector('#run-table input[data-run=ring_1]').click()")  # this run of a hidden setting only
    assert page.run("document.getElementById('shown').textContent") == "4 of 6 runs are shown"


def test_the_table_is_sorted_and_has_means_by_setting(page):
    sort = "[...document.querySelectorAll('#run-table th button')].find(b => b.dataset.column === '{}').click()"
    page.run(sort.format("seed"))
    assert column(page, "seed") == ["0", "0", "1", "1", "2", "2"]
    page.run(sort.format("seed"))
    assert column(page, "seed") == ["2", "2", "1", "1", "0", "0"]
    assert page.run("document.querySelector('th[aria-sort=descending]').textContent") == "seed ▼"
    choose(page, "table-controls", "Evaluation", "last")
    page.run(sort.format("test/accuracy (%)"))
    assert column(page, "test/accuracy (%)") == ["70.0"] * 3 + ["90.0"] * 3
    choose(page, "table-controls", "A row for", "settings")
    assert column(page, "setting") == ["random_directed", "ring"]
    assert column(page, "test/accuracy (%)") == ["70.0 ± 0.0", "90.0 ± 0.0"]
    assert column(page, "runs") == ["3", "3"]


def test_the_slider_shows_every_round_and_keys_move_it(page):
    ring = page.run("document.getElementById('matrix-plot').data[0].z")
    choose(page, "graph-controls", "Runs", page.run("String(RUNS.find(r => r.name === 'ring_0').schedule)"))
    assert page.run("document.getElementById('round')") is None  # the ring is static
    ring = page.run("document.getElementById('matrix-plot').data[0].z")
    assert [value for value in ring[0] if value] == [0.3333] * 3
    choose(page, "graph-controls", "Runs", page.run("String(RUNS.find(r => r.name === 'random_directed_1').schedule)"))
    first = page.run("document.getElementById('matrix-plot').data[0].z")
    page.run("document.getElementById('round').focus()")
    page.press("ArrowRight", 39)
    second = page.run("document.getElementById('matrix-plot').data[0].z")
    assert first != second
    assert page.run("document.querySelector('#graph-controls span').textContent") == "Round t = 1 (first 16)"
    for matrix in (first, second):
        sums = [sum(row[node] or 0 for row in matrix) for node in range(len(matrix))]
        assert sums == [pytest.approx(1.0, abs=2e-3)] * len(matrix)
    assert page.run("document.querySelectorAll('#graph-drawing circle').length") == len(first)


def test_the_keyboard_reaches_everything_and_keeps_its_place(page):
    visited = []
    while "settings" not in visited and len(visited) < 150:
        page.press("Tab", 9)
        visited.append(page.run("document.activeElement.closest('section')?.id || 'top'"))
    assert list(dict.fromkeys(visited)) == [
        "top",
        "filters",
        "curves",
        "table",
        "nodes",
        "graph",
        "partition",
        "settings",
    ]
    page.run("document.querySelector('#legend button').focus()")
    page.press("Enter", 13)
    assert page.run("document.activeElement.getAttribute('aria-pressed')") == "false"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_nothing_is_wider_than_the_window_and_axes_have_titles(page, sweep_page, scheme):
    for width in (1366, 1024, 700):
        page.open(sweep_page[0], width=width, scheme=scheme)
        assert page.run("document.documentElement.scrollWidth") <= width
    luminance = """(colour) => {
      const c = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
      return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; }"""
    ratios = page.run(
        f"""(() => {{
          const light = {luminance};
          const back = light(getComputedStyle(document.body).backgroundColor);
          const ratio = (c) => (Math.max(light(c), back) + 0.05) / (Math.min(light(c), back) + 0.05);
          const texts = ['h1', '.note', 'label', 'td', 'nav a', '#legend button'].map(s => document.querySelector(s));
          const inPlots = document.querySelectorAll('.plot .xtick text, .plot .ytick text, .plot .xtitle');
          return texts.map(t => ratio(getComputedStyle(t).color))
            .concat([...inPlots].map(t => ratio(getComputedStyle(t).fill)));
        }})()"""
    )
    assert len(ratios) > 20
    assert min(ratios) >= 4.5
    titles = page.run("[...document.querySelectorAll('.plot .xtitle')].map(t => t.textContent)")
    assert titles == ["steps", "test/accuracy (%)", "sending node j", "node"]
    assert (
        page.run(
            "[...document.querySelectorAll('.modebar-btn')].filter(b => /cloud|share/i.test(b.dataset.title)).length"
        )
        == 0
    )


def test_plots_fit_their_places_when_these_change(browser, tmp_path, composed):
    """A hundred nodes are a matrix alone, ten have a drawing beside it; a hidden box makes its plot lower."""
    for num_nodes in (100, 10):
        write_run(tmp_path / str(num_nodes), composed(f"num_nodes={num_nodes}"))
    browser.errors.clear()
    browser.open(write_report(tmp_path))
    small, large = browser.run("['10', '100'].map(name => RUNS.find(r => r.name === name).schedule)")
    sizes = (
        "['matrix-plot', 'node-plot'].map(id => document.getElementById(id)).map(e => [e.clientWidth, e.clientHeight])"
    )
    drawn = "['matrix-plot', 'node-plot'].map(id => document.querySelector(`#${id} .main-svg`).getBoundingClientRect())"
    seen = []
    for schedule in (large, small, large):
        choose(browser, "graph-controls", "Runs", str(schedule))
        browser.run("document.querySelector('#legend button').click()")
        browser.run("new Promise(r => setTimeout(r, 200))")
        seen.append(browser.run(sizes))
        assert browser.run(f"{drawn}.map(b => [b.width, b.height])") == seen[-1]
    assert seen[0][0][0] > 1.8 * seen[1][0][0]
    assert browser.errors == []


def test_pages_of_one_run_and_of_runs_without_numbers(browser, tmp_path, composed):
    write_run(tmp_path / "one", composed("num_nodes=4"))
    write_run(tmp_path / "none", composed("num_nodes=4", "problem=random_quadratic"), finished=False)
    (tmp_path / "none" / "metrics.jsonl").unlink()
    browser.errors.clear()
    for name in ("one", "none"):
        browser.open(write_report(tmp_path / name))
        assert browser.errors == []
    notes = browser.run("[...document.querySelectorAll('.note')].map(n => n.textContent)")
    assert "No run that is shown has this metric and this axis." in notes[0]
    assert "RandomQuadratic has no samples with labels" in notes[-1]
