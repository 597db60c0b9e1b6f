"""Durations of local steps: what is drawn, keyed by what, what files may say; and the settings that choose them."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from simulator.config.hydra_versions import instantiate
from simulator.timing.constant import Constant
from simulator.timing.lognormal import Lognormal
from simulator.timing.trace import Trace
from simulator.timing.two_speed import TwoSpeed

CONF = Path(__file__).parents[2] / "conf" / "timing"
ROOT = {"num_nodes": 4, "seed": 3, "link": {"latency_s": 0.001, "bandwidth_bytes_per_s": 1e6}}


def all_steps(num_nodes, num_steps):
    return np.repeat(np.arange(num_nodes), num_steps), np.tile(np.arange(num_steps), num_nodes)


@pytest.mark.parametrize("name", ["constant", "lognormal", "two_speed", "trace"])
def test_settings_fit_their_class_and_are_commented(name):
    path = CONF / f"{name}.yaml"
    lines = path.read_text().splitlines()
    assert all("  # " in line for line in lines)
    composed = OmegaConf.create({**ROOT, "timing": OmegaConf.load(path)})
    if name == "trace":
        composed.timing.path = "somewhere.csv"
    settings = OmegaConf.to_container(composed, resolve=True)["timing"]
    target = get_class(settings["_target_"])
    assert set(settings) - {"_target_"} == set(inspect.signature(target).parameters)
    timing = instantiate(settings)
    assert type(timing) is target
    assert timing.latency_s == 0.001


def test_none_is_empty():
    assert OmegaConf.load(CONF / "none.yaml") == {}


def test_a_duration_depends_on_seed_node_and_step_alone():
    timing = Lognormal(num_nodes=50, step_s=0.1, sigma=0.7, node_sigma=0.3, seed=5)
    nodes, steps = all_steps(50, 40)
    together = timing.compute_s(nodes, steps)
    again = Lognormal(num_nodes=50, step_s=0.1, sigma=0.7, node_sigma=0.3, seed=5)
    order = np.random.Generator(np.random.Philox(1)).permutation(len(nodes))
    assert (again.compute_s(nodes[order], steps[order]) == together[order]).all()
    alone = [again.compute_s([node], [step])[0] for node, step in zip(nodes[:80], steps[:80], strict=True)]
    assert (np.array(alone) == together[:80]).all()
    other = Lognormal(num_nodes=50, step_s=0.1, sigma=0.7, node_sigma=0.3, seed=6).compute_s(nodes, steps)
    assert (other != together).all()
    assert np.unique(together).size == together.size


def test_lognormal_has_the_median_and_both_deviations():
    num_nodes, num_steps = 2000, 100
    timing = Lognormal(num_nodes=num_nodes, step_s=0.2, sigma=0.5, node_sigma=0.8)
    logs = np.log(timing.compute_s(*all_steps(num_nodes, num_steps))).reshape(num_nodes, num_steps)
    assert np.median(logs) == pytest.approx(np.log(0.2), abs=0.06)
    assert logs.std(axis=1).mean() == pytest.approx(0.5, abs=0.01)
    assert logs.mean(axis=1).std() == pytest.approx(np.hypot(0.8, 0.05), abs=0.04)
    steady = Lognormal(num_nodes=4, step_s=0.2, sigma=0.0, node_sigma=0.8)
    assert (steady.compute_s([2, 2], [0, 9]) == steady.medians_s[2]).all()


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.25, 4), (0.28, 4), (1.0, 16)])
def test_two_speed_has_exactly_the_share_of_slow_nodes(share, count):
    chosen = set()
    for seed in range(8):
        timing = TwoSpeed(num_nodes=16, step_s=0.1, slow_share=share, slow_factor=5.0, seed=seed)
        durations = timing.compute_s(np.arange(16), np.zeros(16))
        assert sorted(set(durations)) == [d for d, n in ((0.1, 16 - count), (0.5, count)) if n]
        assert (durations == 0.5).sum() == count
        assert (timing.compute_s(np.arange(16), np.full(16, 7)) == durations).all()
        chosen.add(tuple(durations))
    assert len(chosen) > 1 or count in (0, 16)


def write(tmp_path, text):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return str(path)


def test_a_trace_by_step_holds_on_and_wraps_around(tmp_path):
    path = write(tmp_path, "node,k,step_s\n1,0,5\n0,0,1\n# slower from here on\n0,3,2\n\n0,10,0.5\n")
    timing = Trace(num_nodes=5, path=path)
    assert not timing.needs_starts
    steps = np.array([0, 2, 3, 9, 10, 10**6])
    assert timing.compute_s(np.zeros(6, int), steps).tolist() == [1, 1, 2, 2, 0.5, 0.5]
    assert timing.compute_s(np.ones(6, int), steps).tolist() == [5] * 6
    assert timing.compute_s([2, 3, 4], [3, 3, 3]).tolist() == [2, 5, 2]


def test_a_trace_by_time_takes_what_holds_when_the_step_starts(tmp_path):
    path = write(tmp_path, "node, start_s, step_s\n0,0,1\n0,2.5,0.25\n")
    timing = Trace(num_nodes=2, path=path)
    assert timing.needs_starts
    starts = [0.0, 2.4999, 2.5, 100.0]
    assert timing.compute_s([0, 1, 0, 1], [9, 9, 9, 9], starts).tolist() == [1, 1, 0.25, 0.25]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"it is empty; expected a first line node,k,step_s or node,start_s,step_s"),
        ("node,step_s\n0,1\n", r"line 1: the columns are node,step_s; expected node,k,step_s or node,start_s,step_s"),
        ("node,k,step_s\n", r"it names no node"),
        ("node,k,step_s\n0,0,1\n2,0,1\n", r"node 1 is missing; the nodes are 0 to 2"),
        ("node,k,step_s\n0,0,1\n0,5,1\n0,4,1\n", r"line 4: node 0 runs backwards, from k=5 to 4"),
        ("node,start_s,step_s\n0,0,1\n0,0.0,1\n", r"line 3: node 0 runs backwards, from start_s=0 to 0"),
        ("node,k,step_s\n0,1,1\n", r"line 2: node 0 begins at k=1; its first line needs 0"),
        ("node,k,step_s\n0,0,-1\n", r"line 2: step_s=-1: expected a finite number of at least 0"),
        ("node,k,step_s\n0,0,nan\n", r"line 2: step_s=nan: expected a finite number of at least 0"),
        ("node,k,step_s\n0,0,fast\n", r"line 2: step_s=fast: expected a finite number of at least 0"),
        ("node,start_s,step_s\n0,inf,1\n", r"line 2: start_s=inf: expected a finite number of at least 0"),
        ("node,k,step_s\n0,0.5,1\n", r"line 2: k=0.5: expected an integer of at least 0"),
        ("node,k,step_s\n-1,0,1\n", r"line 2: node=-1: expected an integer of at least 0"),
        ("node,k,step_s\n0,0\n", r"line 2: 2 fields; the first line names 3 columns"),
    ],
)
def test_a_wrong_trace_is_one_line_with_path_and_line(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=r"^timing\.path='.*trace\.csv': ?" + message + "$"):
        Trace(num_nodes=3, path=path).check()


def test_a_missing_trace_is_an_error():
    with pytest.raises(ValueError, match=r"^timing\.path='nowhere\.csv': there is no such file$"):
        Trace(num_nodes=3, path="nowhere.csv").check()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Constant(num_nodes=2, step_s=-1.0), r"timing\.step_s=-1\.0: expected a number of at least 0"),
        (lambda: Constant(num_nodes=2, step_s=float("nan")), r"timing\.step_s=nan: expected a number"),
        (lambda: Lognormal(num_nodes=2, step_s=1.0, sigma=-0.1), r"timing\.sigma=-0\.1: expected"),
        (lambda: TwoSpeed(num_nodes=2, step_s=1.0, slow_share=1.5, slow_factor=2.0), r"slow_share=1\.5: .*in \[0, 1\]"),
        (
            lambda: TwoSpeed(num_nodes=2, step_s=1.0, slow_share=0.5, slow_factor=0.0),
            r"slow_factor=0\.0: expected a pos",
        ),
        (lambda: Constant(num_nodes=2, step_s=1.0, latency_s=-1.0), r"timing\.latency_s=-1\.0: expected"),
        (lambda: Constant(num_nodes=2, step_s=1.0, bandwidth_bytes_per_s=0.0), r"null for no limit"),
    ],
)
def test_settings_out_of_range_are_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
