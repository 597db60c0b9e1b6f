"""FedAvg and its relatives FedProx and pFedMe against NumPy, node by node, and their special cases."""

import numpy as np
import pytest
import torch

from simulator import metrics
from simulator.algorithms.federated.fedavg import FedAvg
from simulator.algorithms.federated.fedprox import FedProx
from simulator.algorithms.federated.pfedme import PFedMe
from simulator.faults.message_loss import MessageLoss
from simulator.graphs.directed_ring import DirectedRing
from simulator.graphs.hub import Hub
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.schedules import Constant, MultiStep
from tests.algorithms.node_data import NUM_NODES, TRAIN_SIZES, Regression, make_problem, run

LR, MOMENTUM, NUM_ROUNDS = 0.2, 0.9, 5
HUB, RING = Hub(num_nodes=NUM_NODES), Ring(num_nodes=NUM_NODES)
MEAN = np.tile(TRAIN_SIZES / TRAIN_SIZES.sum(), (NUM_NODES, 1))
GRAPHS = {"hub": (HUB, MEAN), "ring": (RING, RING.edges(0).to_matrix(NUM_NODES))}

pytestmark = pytest.mark.usefixtures("one_thread")


def make(kind, **changes):
    settings = {"lr": LR, "lr_schedule": MultiStep(milestones=[2], decay=0.5), "local_steps": None}
    adaptation = {"adaptation_epochs": 0, "adaptation_lr": None}
    own = {"momentum": MOMENTUM, **adaptation} if kind is FedAvg else {"proximity": 0.7}
    return kind(**{**settings, **own, **changes})


def reference(data, matrix, *, momentum=0.0, proximity=0.0, keeps_own=False):
    """NUM_ROUNDS of local epochs and averages; returns the nodes' models and the averages."""
    x = np.tile(data.start, (NUM_NODES, 1))
    centre, velocity = x.copy(), np.zeros_like(x)
    for index in range(NUM_ROUNDS):
        lr = LR * (0.5 if index >= 2 else 1.0)
        for i in range(NUM_NODES):
            for batch in data.epoch(i, index):
                gradient = data.gradient(i, x[i], batch) + proximity * (x[i] - centre[i])
                velocity[i] = momentum * velocity[i] + gradient
                x[i] = x[i] - lr * velocity[i]
        centre = matrix @ x
        if not keeps_own:
            x = centre.copy()
    return x, centre


def close(found, expected):
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("where", GRAPHS)
@pytest.mark.parametrize("momentum", [0.0, MOMENTUM])
def test_fedavg(where, momentum):
    graph, matrix = GRAPHS[where]
    problem = make_problem()
    state, _ = run(make(FedAvg, momentum=momentum), problem, graph, NUM_ROUNDS)
    expected, _ = reference(Regression(problem), matrix, momentum=momentum)
    close(state["params"], expected)
    # The epochs are of unequal length, and the order within them matters.
    uniform, _ = reference(Regression(problem), np.full((NUM_NODES, NUM_NODES), 1 / NUM_NODES), momentum=momentum)
    assert np.abs(uniform - expected).max() > 1e-4


@pytest.mark.parametrize("where", GRAPHS)
def test_fedprox_and_pfedme(where):
    graph, matrix = GRAPHS[where]
    problem = make_problem()
    state, _ = run(make(FedProx), problem, graph, NUM_ROUNDS)
    close(state["params"], reference(Regression(problem), matrix, proximity=0.7)[0])
    state, _ = run(make(PFedMe), problem, graph, NUM_ROUNDS)
    own, centre = reference(Regression(problem), matrix, proximity=0.7, keeps_own=True)
    close(state["params"], own)
    close(state["centre"], centre)


def test_special_cases_of_the_proximal_term():
    problem = make_problem()
    fedavg, _ = run(make(FedAvg, momentum=0.0), problem, HUB, NUM_ROUNDS)
    fedprox, _ = run(make(FedProx, proximity=0.0), problem, HUB, NUM_ROUNDS)
    torch.testing.assert_close(fedprox["params"], fedavg["params"], rtol=0, atol=0)
    # Without a pull towards the average a node trains alone.
    alone, network = run(make(FedAvg, momentum=0.0), problem, SelfLoop(num_nodes=NUM_NODES), NUM_ROUNDS)
    pfedme, _ = run(make(PFedMe, proximity=0.0), problem, HUB, NUM_ROUNDS)
    torch.testing.assert_close(pfedme["params"], alone["params"], rtol=0, atol=0)
    assert network.ledger.bytes == 0
    assert (alone["params"] - fedavg["params"]).abs().max() > 1e-2


def test_one_full_batch_step_is_gradient_descent_on_the_weighted_mean():
    problem = make_problem(batch_size=None)
    data = Regression(problem)
    state, _ = run(make(FedAvg, momentum=0.0, local_steps=1, lr_schedule=Constant()), problem, HUB, NUM_ROUNDS)
    row, shares = data.start, TRAIN_SIZES / TRAIN_SIZES.sum()
    for _ in range(NUM_ROUNDS):
        gradients = [data.gradient(i, row, np.arange(TRAIN_SIZES[i])) for i in range(NUM_NODES)]
        row = row - LR * shares @ np.stack(gradients)
    close(state["params"], np.tile(row, (NUM_NODES, 1)))


def test_local_steps_are_consecutive_minibatches():
    problem = make_problem()
    data = Regression(problem)
    state, _ = run(make(FedAvg, momentum=0.0, local_steps=3, lr_schedule=Constant()), problem, HUB, 2)
    x = np.tile(data.start, (NUM_NODES, 1))
    for index in range(2):
        for i in range(NUM_NODES):
            batches = [batch for epoch in range(6) for batch in data.epoch(i, epoch)][3 * index : 3 * index + 3]
            for batch in batches:
                x[i] = x[i] - LR * data.gradient(i, x[i], batch)
        x = MEAN @ x
    close(state["params"], x)


def test_bytes_are_those_of_the_models():
    problem = make_problem(dtype=torch.float32)
    num_params = problem.num_params
    _, network = run(make(FedAvg), problem, HUB, NUM_ROUNDS)
    assert network.ledger.bytes == NUM_ROUNDS * 2 * (NUM_NODES - 1) * 4 * num_params
    sent = network.ledger.node_sent.tolist()
    assert sent == [NUM_ROUNDS * 4 * num_params * (NUM_NODES - 1), *[NUM_ROUNDS * 4 * num_params] * (NUM_NODES - 1)]
    _, network = run(make(FedProx), problem, RING, NUM_ROUNDS)
    assert network.ledger.bytes == NUM_ROUNDS * 2 * NUM_NODES * 4 * num_params


@pytest.mark.parametrize(("adaptation_lr", "rate"), [(None, LR), (0.35, 0.35)])
def test_local_adaptation_is_one_epoch_more_on_a_copy_at_a_rate_that_does_not_decay(adaptation_lr, rate):
    problem = make_problem()
    # The last rounds train at half of LR.
    plain, _ = run(make(FedAvg), problem, HUB, NUM_ROUNDS)
    algorithm = make(FedAvg, adaptation_epochs=1, adaptation_lr=adaptation_lr)
    state, network = run(algorithm, problem, HUB, NUM_ROUNDS)
    evaluation = metrics.evaluate(algorithm, state, NUM_ROUNDS, problem, network, is_last=True)
    torch.testing.assert_close(state["params"], plain["params"], rtol=0, atol=0)
    data = Regression(problem)
    adapted = state["params"].numpy().copy()
    for i in range(NUM_NODES):
        velocity = np.zeros_like(adapted[i])
        for batch in data.epoch(i, NUM_ROUNDS):
            velocity = MOMENTUM * velocity + data.gradient(i, adapted[i], batch)
            adapted[i] -= rate * velocity
    expected = problem.evaluate(torch.from_numpy(adapted), problem.init_hparams())
    for name in ("test/accuracy", "test/loss", "train/loss"):
        torch.testing.assert_close(evaluation.per_node[name], expected[name], rtol=0, atol=1e-12)
    before = problem.evaluate(plain["params"], problem.init_hparams())
    assert (before["train/loss"] - expected["train/loss"]).abs().max() > 1e-2


def test_over_a_hub_that_loses_messages_nodes_average_over_who_is_heard():
    graph = MessageLoss(graph=HUB, probability=0.4, seed=2)
    problem = make_problem()
    algorithm = make(FedAvg, momentum=0.0, lr_schedule=Constant())
    network = Network(graph, Placement(NUM_NODES), torch.device("cpu"))
    state, data = algorithm.init(problem, network), Regression(problem)
    x, lost = np.tile(data.start, (NUM_NODES, 1)), 0
    for step in range(8):
        state = algorithm.step(state, step, problem, network)
        for i in range(NUM_NODES):
            for batch in data.epoch(i, step):
                x[i] = x[i] - LR * data.gradient(i, x[i], batch)
        up, down = (graph.edges(2 * step + phase).to_matrix(NUM_NODES) > 0 for phase in (0, 1))
        heard = np.flatnonzero(up[0])
        x[0] = TRAIN_SIZES[heard] @ x[heard] / TRAIN_SIZES[heard].sum()
        for i in np.flatnonzero(down[:, 0]):
            x[i] = x[0]
        lost += NUM_NODES - len(heard)
    assert lost > 0
    close(state["params"], x)


@pytest.mark.parametrize("kind", [FedAvg, FedProx, PFedMe])
def test_refuses_directed_graphs_and_bad_settings(kind):
    directed = RandomDirected(num_nodes=NUM_NODES, rate_low=0.4, rate_high=0.8)
    with pytest.raises(ValueError, match=rf"algorithm={kind.__name__.lower()} needs graph=hub or doubly stochastic"):
        make(kind).check_graph(directed)
    make(kind).check_graph(HUB)
    make(kind).check_graph(DirectedRing(num_nodes=NUM_NODES))
    own = "momentum" if kind is FedAvg else "proximity"
    for changes in ({"lr": 0.0}, {"local_steps": 0}, {own: -0.1}):
        (key,) = changes
        with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
            make(kind, **changes)
    with pytest.raises(ValueError, match=r"algorithm\.adaptation_epochs=-1: expected at least 0"):
        make(FedAvg, adaptation_epochs=-1)
    with pytest.raises(ValueError, match=r"algorithm\.adaptation_lr=0\.0: expected"):
        make(FedAvg, adaptation_lr=0.0)
