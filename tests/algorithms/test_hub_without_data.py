"""Algorithms of local training when node 0, the hub, has no data: the others behave as if it were not there."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from simulator import metrics
from simulator.config.hydra_versions import instantiate
from simulator.graphs.hub import Hub
from simulator.graphs.star import Star
from tests.algorithms.node_data import SIZES, run
from tests.algorithms.simulation import CONF
from tests.problems.conftest import build

NUM_ROUNDS = 6
WITH_HUB = ((0, 0, 0), *SIZES)
CHANGES = {"lr": 0.2, "local_steps": 3}
ALGORITHMS = (
    *("fedavg", "fedprox", "pfedme", "apfl", "fedem", "l2sgd", "clustered_fl"),
    *("fedper", "fedrep", "lg_fedavg", "per_fedavg", "ditto"),
)

pytestmark = pytest.mark.usefixtures("one_thread")


def make(name):
    settings = {**OmegaConf.to_container(OmegaConf.load(CONF / "algorithm" / f"{name}.yaml")), **CHANGES}
    if name == "clustered_fl":
        # So that the nodes come apart.
        settings |= {"mean_threshold": 10.0, "max_threshold": 1e-3}
    return instantiate(OmegaConf.create({"seed": 7, "it": settings}).it)


def make_problem(name, sizes, **changes):
    kind = "mixture_weights" if name == "fedem" else "classification"
    return build(kind, sizes=sizes, hidden=(5,), **{"weight_decay": 0.1, **changes})


@pytest.mark.parametrize("name", ALGORITHMS)
def test_over_a_hub_without_data_nodes_do_as_over_one_of_them(name):
    """With full batches nothing is keyed by a node's number but who it is."""
    found, expected = (
        run(make(name), make_problem(name, sizes, batch_size=None), Hub(num_nodes=len(sizes)), NUM_ROUNDS)
        for sizes in (WITH_HUB, SIZES)
    )
    algorithm = make(name)
    estimates = [algorithm.estimate(state) for state, _ in (found, expected)]
    torch.testing.assert_close(estimates[0][1:], estimates[1], rtol=0, atol=1e-11)
    assert torch.isfinite(estimates[0]).all()
    # One node more that is told everything.
    ratio = found[1].ledger.bytes / expected[1].ledger.bytes
    assert ratio == pytest.approx(len(SIZES) / (len(SIZES) - 1), rel=0.3)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("graph", [Hub, Star])
def test_minibatches_and_metrics_leave_the_hub_out(name, graph):
    problem, algorithm = make_problem(name, WITH_HUB), make(name)
    if graph is Star and name == "clustered_fl":
        with pytest.raises(ValueError, match="needs graph=hub"):
            algorithm.check_graph(Star(num_nodes=5))
        return
    start = problem.init_params()
    state, network = run(algorithm, problem, graph(num_nodes=len(WITH_HUB)), NUM_ROUNDS)
    evaluation = metrics.evaluate(algorithm, state, NUM_ROUNDS, problem, network, is_last=True)
    for name_, values in evaluation.per_node.items():
        if name_.split("/")[0] in ("train", "valid", "test"):
            assert values[0].isnan()
            assert torch.isfinite(values[1:]).all()
    numbers = evaluation.numbers
    assert all(np.isfinite(value) for value in numbers.values())
    sizes = np.array([size for _, _, size in SIZES])
    weighted = (evaluation.per_node["test/accuracy"][1:].numpy() * sizes).sum() / sizes.sum()
    assert numbers["test/accuracy_weighted"] == pytest.approx(weighted, rel=1e-12)
    begin = problem.evaluate(start, problem.init_hparams())["train/loss"][1:].mean()
    assert numbers["train/loss"] < float(begin) - 0.005


@pytest.mark.parametrize("batch_size", [4, None])
def test_a_process_with_nothing_but_the_hub_computes_nothing(batch_size):
    problem = make_problem("fedavg", WITH_HUB, nodes=range(1), compute="auto", batch_size=batch_size)
    assert problem.choose_compute(["first_order"]) == {"first_order": "batched"}
    params, hparams = problem.init_params(), problem.init_hparams()
    for step in (0, None):
        torch.testing.assert_close(problem.grad(params, hparams, step), 0.1 * params)
    assert all(values.isnan().all() for values in problem.evaluate(params, hparams).values())
