"""L2SGD against NumPy, node by node, its objective, and its two ends: local training and full averages."""

import numpy as np
import pytest
import torch

from simulator.algorithms.federated.fedavg import FedAvg
from simulator.algorithms.federated.l2sgd import L2SGD
from simulator.graphs.hub import Hub
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.self_loop import SelfLoop
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.schedules import Constant, MultiStep
from tests.algorithms.node_data import NUM_NODES, TRAIN_SIZES, Regression, make_problem, run

LR, PROBABILITY, NUM_ROUNDS = 0.1, 0.4, 8
HUB, CHANGING = Hub(num_nodes=NUM_NODES), OnePeerExponential(num_nodes=NUM_NODES)
MEAN = np.tile(TRAIN_SIZES / TRAIN_SIZES.sum(), (NUM_NODES, 1))

pytestmark = pytest.mark.usefixtures("one_thread")


def make(**changes):
    settings = {"lr": LR, "lr_schedule": Constant(), "local_steps": None}
    return L2SGD(**{**settings, "penalty": 2.0, "probability": PROBABILITY, "seed": 3, **changes})


def new_network(graph):
    return Network(graph, Placement(NUM_NODES), torch.device("cpu"))


@pytest.mark.parametrize(
    ("graph", "matrix"), [(HUB, lambda _: MEAN), (CHANGING, lambda index: CHANGING.edges(index).to_matrix(NUM_NODES))]
)
def test_every_round_trains_and_then_averages_as_often_as_the_coin_says(graph, matrix):
    problem, algorithm = make_problem(), make(lr_schedule=MultiStep(milestones=[4], decay=0.5))
    state, network = run(algorithm, problem, graph, NUM_ROUNDS)
    data = Regression(problem)
    x, averages = np.tile(data.start, (NUM_NODES, 1)), [algorithm.num_averages(step) for step in range(NUM_ROUNDS)]
    assert {0, 1} < set(averages)
    done = 0
    for step, count in enumerate(averages):
        lr = LR * (0.5 if step >= 4 else 1.0)
        for i in range(NUM_NODES):
            for batch in data.epoch(i, step):
                x[i] = x[i] - lr / (1 - PROBABILITY) * data.gradient(i, x[i], batch)
        for _ in range(count):
            x = x - lr * 2.0 / PROBABILITY * (x - matrix(done) @ x)
            done += 1
    np.testing.assert_allclose(state["params"].numpy(), x, rtol=0, atol=1e-12)
    # Over the hub several averages in a row are sent once: up and down.
    sent = 2 * (NUM_NODES - 1) * sum(count > 0 for count in averages) if graph is HUB else NUM_NODES * done
    assert network.ledger.bytes == sent * 8 * problem.num_params


def test_over_a_hub_the_penalty_is_that_of_the_objective_weighted_with_samples():
    problem, penalty = make_problem(), 2.0
    seeds = [next(seed for seed in range(50) if make(seed=seed).num_averages(0) == count) for count in (0, 1)]
    start = torch.randn(NUM_NODES, problem.num_params, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    trained, averaged = (
        make(seed=seed, penalty=penalty).step(
            {"params": start.clone(), "rounds": torch.zeros(NUM_NODES)}, 0, problem, new_network(HUB)
        )["params"]
        for seed in seeds
    )
    shares = torch.from_numpy(TRAIN_SIZES / TRAIN_SIZES.sum())
    x = trained.clone().requires_grad_()
    (shares @ (x - shares @ x).square().sum(dim=1) * penalty / 2).backward()
    torch.testing.assert_close(averaged - trained, -LR / PROBABILITY * x.grad / shares[:, None], rtol=0, atol=1e-12)


def test_full_pull_is_the_average_and_none_is_local_training():
    problem = make_problem()
    full = make(penalty=PROBABILITY / LR)
    last = max(step for step in range(NUM_ROUNDS) if full.num_averages(step))
    state, _ = run(full, problem, HUB, last + 1)
    torch.testing.assert_close(state["params"], state["params"][:1].expand(NUM_NODES, -1), rtol=0, atol=1e-14)
    state, _ = run(make(penalty=0.0), problem, HUB, NUM_ROUNDS)
    settings = {"lr_schedule": Constant(), "local_steps": None, "adaptation_epochs": 0, "adaptation_lr": None}
    local = FedAvg(lr=LR / (1 - PROBABILITY), momentum=0.0, **settings)
    expected, _ = run(local, problem, SelfLoop(num_nodes=NUM_NODES), NUM_ROUNDS)
    torch.testing.assert_close(state["params"], expected["params"], rtol=0, atol=1e-14)


def test_the_coin_has_its_probability_and_is_keyed():
    counts = np.array([make(seed=seed).num_averages(step) for seed in range(4) for step in range(500)])
    for least in (1, 2, 3):
        share = PROBABILITY**least
        # Five standard deviations of a binomial frequency over 2000 rounds.
        assert abs((counts >= least).mean() - share) < 5 * (share * (1 - share) / len(counts)) ** 0.5
    assert not np.array_equal(counts[:500], counts[500:1000])


@pytest.mark.parametrize("changes", [{"probability": 0.0}, {"probability": 1.0}, {"penalty": -1.0}, {"penalty": 4.1}])
def test_refuses(changes):
    (key,) = changes
    with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
        make(**changes)
