"""FedEM against NumPy, node by node; its likelihood does not decrease."""

import numpy as np
import pytest
import torch

from simulator.algorithms.federated.fedem import FedEM
from simulator.compute.choice import EXECUTORS
from simulator.graphs.hub import Hub
from simulator.graphs.ring import Ring
from simulator.schedules import Constant
from tests.algorithms.node_data import NUM_NODES, TRAIN_SIZES, Regression, make_problem, run

LR, MOMENTUM, NUM_ROUNDS, K = 0.2, 0.9, 5, 3
HUB, RING = Hub(num_nodes=NUM_NODES), Ring(num_nodes=NUM_NODES)
MEAN = np.tile(TRAIN_SIZES / TRAIN_SIZES.sum(), (NUM_NODES, 1))

pytestmark = pytest.mark.usefixtures("one_thread")


def make(**changes):
    settings = {"lr": LR, "lr_schedule": Constant(), "local_steps": None, "momentum": MOMENTUM}
    return FedEM(**{**settings, **changes})


@pytest.mark.parametrize("compute", EXECUTORS)
@pytest.mark.parametrize(("graph", "matrix"), [(HUB, MEAN), (RING, RING.edges(0).to_matrix(NUM_NODES))])
def test_fedem(graph, matrix, compute):
    problem = make_problem("mixture_weights", compute=compute)
    state, network = run(make(), problem, graph, NUM_ROUNDS)
    data = Regression(problem)
    x = np.tile(data.start.reshape(K, -1), (NUM_NODES, 1, 1))
    assert np.abs(x[0, 0] - x[0, 1]).max() > 0.1
    shares, velocity = np.full((NUM_NODES, K), 1 / K), np.zeros_like(x)
    for index in range(NUM_ROUNDS):
        for i in range(NUM_NODES):
            everything = np.arange(TRAIN_SIZES[i])
            q = np.stack([data.likelihood(i, x[i, k], everything) for k in range(K)], axis=1) * shares[i]
            q /= q.sum(axis=1, keepdims=True)
            shares[i] = q.mean(axis=0)
            for k in range(K):
                for batch in data.epoch(i, index):
                    velocity[i, k] = MOMENTUM * velocity[i, k] + data.gradient(i, x[i, k], batch, q[batch, k])
                    x[i, k] = x[i, k] - LR * velocity[i, k]
        x = np.einsum("ij,jkd->ikd", matrix, x)
    np.testing.assert_allclose(state["params"].numpy(), x.reshape(NUM_NODES, -1), rtol=0, atol=1e-12)
    found = make().hparams(state, problem).softmax(dim=1)
    np.testing.assert_allclose(found.numpy(), shares, rtol=0, atol=1e-11)
    assert np.abs(shares - 1 / K).max() > 0.05
    edges = 2 * (NUM_NODES - 1) if graph is HUB else 2 * NUM_NODES
    assert network.ledger.bytes == NUM_ROUNDS * edges * 8 * problem.num_params
    # What is predicted is the mixture.
    chances = [
        sum(shares[i, k] * data.probabilities(i, x[i, k], np.arange(TRAIN_SIZES[i])) for k in range(K))
        for i in range(NUM_NODES)
    ]
    labels = [data.labels[rows] for rows in data.rows]
    losses = [-np.log(chance[np.arange(len(y)), y]).mean() for chance, y in zip(chances, labels, strict=True)]
    evaluated = problem.evaluate(state["params"], make().hparams(state, problem))
    np.testing.assert_allclose(evaluated["train/loss"].numpy(), losses, rtol=0, atol=1e-10)


def test_likelihood_does_not_decrease():
    """Full batches, small steps, sample-weighted averages: a generalised EM on the pooled likelihood."""
    problem = make_problem("mixture_weights", batch_size=None, weight_decay=0.0)
    algorithm = make(lr=0.05, momentum=0.0)
    losses = []
    for num_steps in range(0, 60, 3):
        state, _ = run(algorithm, problem, HUB, num_steps)
        values = problem.evaluate(state["params"], algorithm.hparams(state, problem))["train/loss"].numpy()
        losses.append(TRAIN_SIZES @ values / TRAIN_SIZES.sum())
    assert (np.diff(losses) < 0).all()
    assert losses[-1] < losses[0] - 0.1


def test_refuses_other_problems():
    with pytest.raises(ValueError, match=r"algorithm=fedem needs problem=mixture_weights, and this is Classification"):
        make().check_problem(make_problem())
    make().check_problem(make_problem("mixture_weights"))


def test_a_node_without_data_keeps_equal_shares():
    problem = make_problem("mixture_weights")
    empty = torch.zeros(NUM_NODES, 20, K, dtype=torch.float64)
    problem.responsibilities = lambda params, hparams: empty
    state, _ = run(make(), problem, HUB, 1)
    torch.testing.assert_close(
        make().hparams(state, problem).softmax(dim=1), torch.full((NUM_NODES, K), 1 / K).double()
    )
