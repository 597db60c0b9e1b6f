"""Metrics: means, tails and consensus over nodes against NumPy, and the stop of runs that diverged."""

import numpy as np
import pytest
import torch

from simulator import metrics
from simulator.algorithms.base import Algorithm, consensus_distance
from simulator.algorithms.weights import Weights
from simulator.graphs.ring import Ring
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Problem
from simulator.summary import _best

NUM_NODES = 12
NAN = float("nan")


class Fixed(Algorithm):
    """Reports what it is told to."""

    weights = Weights.ANY

    def __init__(self, diagnosis=None):
        self.diagnosis = diagnosis or {}
        self.asked = []

    def init(self, problem, network):
        return {"params": torch.zeros(NUM_NODES, 3)}

    def step(self, state, step, problem, network):
        raise AssertionError("an evaluation takes no step")

    def estimate(self, state):
        return state["params"]

    def hparams(self, state, problem):
        return state["hparams"]

    def diagnose(self, state, step, problem, network, *, is_last):
        self.asked.append((step, is_last))
        return self.diagnosis


class Scores(Problem):
    uses_data = False

    def __init__(self, scores, sizes):
        self.scores, self.sizes = scores, sizes

    def setup(self, setting):
        raise AssertionError

    def init_params(self):
        raise AssertionError

    def add_grad_(self, out, params, hparams, step, alpha):
        raise AssertionError

    def evaluate(self, params, hparams):
        self.seen = params, hparams
        return self.scores

    def split_sizes(self):
        return self.sizes


def network_of():
    return Network(Ring(num_nodes=NUM_NODES), Placement(NUM_NODES), torch.device("cpu"))


def evaluate(scores, diagnosis=None, step=3, sizes=None, **more):
    rng = torch.Generator().manual_seed(0)
    state = {"params": torch.randn(NUM_NODES, 3, generator=rng), "hparams": torch.zeros(NUM_NODES, 1)}
    before = {name: rows.clone() for name, rows in state.items()}
    algorithm, network = Fixed(diagnosis), network_of()
    network.mix((torch.zeros(NUM_NODES, 2),), 0)
    evaluation = metrics.evaluate(algorithm, state, step, Scores(scores, sizes or {}), network, **more)
    assert all(torch.equal(rows, before[name]) for name, rows in state.items())
    return evaluation, state, algorithm


def test_mean_and_tenth_percentile_over_nodes():
    accuracy = torch.rand(NUM_NODES, generator=torch.Generator().manual_seed(1))
    loss = torch.rand(NUM_NODES, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    evaluation, _, _ = evaluate({"test/accuracy": accuracy, "train/loss": loss})
    numbers = evaluation.numbers
    assert numbers["test/accuracy"] == pytest.approx(accuracy.double().mean().item(), rel=1e-12)
    assert numbers["test/accuracy_p10"] == pytest.approx(np.quantile(accuracy.double().numpy(), 0.1), rel=1e-12)
    assert numbers["train/loss"] == pytest.approx(loss.mean().item(), rel=1e-12)
    assert "train/loss_p10" not in numbers
    torch.testing.assert_close(evaluation.per_node["test/accuracy"], accuracy.double(), rtol=0, atol=0)
    assert all(isinstance(value, float | int) for value in numbers.values())


def test_nodes_without_samples_do_not_count():
    values = np.linspace(0.3, 0.9, NUM_NODES)
    values[[2, 7, 11]] = NAN
    evaluation, _, _ = evaluate({"valid/accuracy": torch.from_numpy(values)})
    some = values[~np.isnan(values)]
    assert evaluation.numbers["valid/accuracy"] == pytest.approx(some.mean(), rel=1e-12)
    assert evaluation.numbers["valid/accuracy_p10"] == pytest.approx(np.quantile(some, 0.1), rel=1e-12)
    assert torch.isnan(evaluation.per_node["valid/accuracy"]).sum() == 3


def test_spread_over_nodes_and_mean_over_samples():
    values = np.linspace(0.3, 0.9, NUM_NODES) ** 2
    values[4] = NAN
    sizes = np.arange(NUM_NODES) * 3
    scores = {"test/accuracy": torch.from_numpy(values), "valid/accuracy": torch.from_numpy(values)}
    numbers = evaluate(scores, sizes={"test": sizes})[0].numbers
    known = ~np.isnan(values)
    some, counts = values[known], sizes[known]
    assert numbers["test/accuracy_min"] == some.min()
    assert numbers["test/accuracy_max"] == some.max()
    assert numbers["test/accuracy_std"] == pytest.approx(np.sqrt(np.mean((some - some.mean()) ** 2)), rel=1e-12)
    assert numbers["test/accuracy_weighted"] == pytest.approx(np.average(some, weights=counts), rel=1e-12)
    assert "valid/accuracy_weighted" not in numbers
    nothing = evaluate({"test/accuracy": torch.full((NUM_NODES,), NAN)})[0].numbers
    assert not [name for name in nothing if name.endswith(("_min", "_max", "_std"))]


def test_what_an_evaluation_prepares_is_evaluated_and_not_kept():
    class Prepared(Fixed):
        def prepare_evaluation(self, state, problem, network):
            return {**state, "params": state["params"] + 1}

    problem, state = Scores({"test/accuracy": torch.ones(NUM_NODES)}, {}), {"params": torch.zeros(NUM_NODES, 3)}
    state["hparams"] = torch.zeros(NUM_NODES, 1)
    metrics.evaluate(Prepared(), state, 3, problem, network_of())
    assert torch.equal(problem.seen[0], torch.ones(NUM_NODES, 3))
    assert torch.equal(state["params"], torch.zeros(NUM_NODES, 3))


@pytest.mark.parametrize(
    ("selection", "step"), [("valid/accuracy", 20), ("valid/accuracy_weighted", 10), ("valid/accuracy_min", None)]
)
def test_the_summary_has_the_first_best_evaluation(selection, step):
    rows = [(0, 0.9, 0.9), (10, 0.3, 0.6), (20, 0.5, 0.4), (30, 0.5, 0.6)]
    names = ("step", "valid/accuracy", "valid/accuracy_weighted")
    records = [{**dict(zip(names, row, strict=True)), "test/accuracy_std": row[0] / 100} for row in rows]
    found = _best(records, selection)
    assert found.get("best/step") == step
    assert found.get("best/test/accuracy_std") == (step and step / 100)


@pytest.mark.parametrize(("num_nodes", "rank"), [(1, 0), (9, 0), (19, 0), (20, 1), (29, 1), (30, 2), (100, 9)])
def test_bottom_decile_is_the_best_of_the_worst_tenth(num_nodes, rank):
    values = torch.randn(num_nodes, dtype=torch.float64, generator=torch.Generator().manual_seed(num_nodes))
    padded = torch.cat([torch.tensor([NAN, NAN]), values])
    assert metrics.bottom_decile(padded) == np.sort(values.numpy())[rank]
    assert np.isnan(metrics.bottom_decile(torch.tensor([NAN])))


def test_consensus_distance_and_traffic():
    evaluation, state, _ = evaluate({"train/loss": torch.ones(NUM_NODES)})
    x = state["params"].double().numpy()
    expected = np.sqrt(np.mean(np.sum((x - x.mean(0)) ** 2, axis=1)))
    assert evaluation.numbers["consensus_distance"] == pytest.approx(expected, rel=1e-5)
    assert evaluation.numbers["comm/bytes"] == evaluation.numbers["comm/bytes_inner"] == 2 * NUM_NODES * 8
    assert evaluation.numbers["comm/messages"] == 2 * NUM_NODES
    assert evaluation.numbers["comm/wire_bytes"] == evaluation.numbers["comm/evaluation_bytes"] == 0
    assert evaluation.numbers["time/sim_s"] > 0


def test_equal_rows_are_in_consensus():
    row = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    assert consensus_distance(row.expand(NUM_NODES, 3), network_of()) == pytest.approx(0, abs=1e-15)


def test_what_the_algorithm_diagnoses_is_reported():
    per_node = torch.arange(NUM_NODES, dtype=torch.float32)
    diagnosis = {"hypergradient/norm": 2.5, "staleness": per_node}
    evaluation, _, algorithm = evaluate({"train/loss": torch.ones(NUM_NODES)}, diagnosis, is_last=True)
    assert evaluation.numbers["hypergradient/norm"] == 2.5
    assert evaluation.numbers["staleness"] == pytest.approx(per_node.mean().item())
    assert set(evaluation.per_node) == {"train/loss", "staleness"}
    assert algorithm.asked == [(2, True)]
    before_the_first_step = evaluate({"train/loss": torch.ones(NUM_NODES)}, diagnosis, step=0)
    assert before_the_first_step[2].asked == []


@pytest.mark.parametrize("bad", [NAN, float("inf"), float("-inf")])
def test_runs_that_diverged_are_stopped_with_names(bad):
    state = {"hparams": torch.zeros(3, 0), "params": torch.zeros(3, 4), "push_sum_weight": torch.ones(3)}
    metrics.require_finite(state, 9, 5, range(10, 13))
    state["params"][1, 2] = bad
    with pytest.raises(FloatingPointError, match=r"params of node 11 after step 9 .*finite after step 5"):
        metrics.require_finite(state, 9, 5, range(10, 13))
    state["params"][1, 2] = 0
    state["push_sum_weight"][2] = bad
    with pytest.raises(FloatingPointError, match="push_sum_weight of node 12"):
        metrics.require_finite(state, 9, 5, range(10, 13))


def test_opposite_infinities_are_seen_and_large_finite_numbers_are_not():
    state = {"params": torch.tensor([[float("inf")], [float("-inf")]])}
    with pytest.raises(FloatingPointError, match="node 0"):
        metrics.require_finite(state, 1, 0, range(2))
    metrics.require_finite({"params": torch.full((4, 2), 3e38)}, 1, 0, range(4))  # the sum overflows


def test_a_tiny_push_sum_weight_is_named():
    state = {"params": torch.full((3, 2), torch.nan), "push_sum_weight": torch.tensor([1.0, 1e-5, 2.0])}
    with pytest.raises(FloatingPointError, match=r"the push-sum weight of node 11 is 1e-05, and its steps are longer"):
        metrics.require_finite(state, 9, 5, range(10, 13))
    for weights in (torch.ones(3), torch.full((3,), torch.nan)):
        with pytest.raises(FloatingPointError, match="a smaller learning rate or step size usually helps"):
            metrics.require_finite({**state, "push_sum_weight": weights}, 9, 5, range(10, 13))
