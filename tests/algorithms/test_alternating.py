"""FedRep and DFedPGP against a network of two layers in NumPy, node by node, and against each other and FedAvg."""

import numpy as np
import pytest
import torch

from simulator.algorithms.federated.dfedpgp import DFedPGP
from simulator.algorithms.federated.fedavg import FedAvg
from simulator.algorithms.federated.fedrep import FedRep
from simulator.algorithms.weights import check_weights
from simulator.faults.message_delay import MessageDelay
from simulator.graphs.hub import Hub
from simulator.graphs.one_peer_exponential import OnePeerExponential
from simulator.graphs.random_directed import RandomDirected
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.schedules import Constant, MultiStep
from simulator.testing.dealt_data import NUM_CLASSES, NUM_FEATURES
from tests.algorithms.node_data import DECAY, NUM_NODES, SIZES, TRAIN_SIZES, Regression, run
from tests.problems.conftest import build

LR, MOMENTUM, NUM_ROUNDS, WIDTH = 0.2, 0.9, 4, 5
HUB, RING = Hub(num_nodes=NUM_NODES), Ring(num_nodes=NUM_NODES)
DIRECTED = RandomDirected(num_nodes=NUM_NODES, rate_low=0.3, rate_high=0.6)
PEERS = OnePeerExponential(num_nodes=NUM_NODES)
BODY = WIDTH * (NUM_FEATURES + 1)

pytestmark = pytest.mark.usefixtures("one_thread")


def make(kind, **changes):
    settings = {"lr": LR, "lr_schedule": MultiStep(milestones=[2], decay=0.5), "local_steps": None}
    own = {"private_layers": 1, "head_epochs": 2, "body_epochs": 1, "momentum": MOMENTUM}
    return kind(**{**settings, **own, **changes})


def make_problem():
    return build("classification", sizes=SIZES, hidden=(WIDTH,), weight_decay=DECAY)


class TwoLayers(Regression):
    """Linear, ReLU, linear; gradients by hand."""

    def gradient(self, node, row, positions, weights=None):
        x, labels = self.inputs[self.rows[node][positions]], self.labels[self.rows[node][positions]]
        first, head = np.split(row, [BODY])
        a, b = first[: WIDTH * NUM_FEATURES].reshape(WIDTH, NUM_FEATURES), first[WIDTH * NUM_FEATURES :]
        c, d = head[: NUM_CLASSES * WIDTH].reshape(NUM_CLASSES, WIDTH), head[NUM_CLASSES * WIDTH :]
        hidden = np.maximum(x @ a.T + b, 0)
        p = np.exp(hidden @ c.T + d)
        delta = (p / p.sum(axis=1, keepdims=True) - np.eye(NUM_CLASSES)[labels]) / len(labels)
        back = (delta @ c) * (hidden > 0)
        parts = (back.T @ x).ravel(), back.sum(axis=0), (delta.T @ hidden).ravel(), delta.sum(axis=0)
        return np.concatenate(parts) + DECAY * row


def reference(data, matrix_of, head_epochs, body_epochs, momentum):
    """Bodies u, heads h and push-sum weights w after NUM_ROUNDS; a matrix whose rows sum to 1 keeps all weights 1."""
    u, h = (np.tile(part, (NUM_NODES, 1)) for part in np.split(data.start, [BODY]))
    m_u, m_h, w = np.zeros_like(u), np.zeros_like(h), np.ones(NUM_NODES)
    epoch = 0
    for index in range(NUM_ROUNDS):
        lr = LR * (0.5 if index >= 2 else 1.0)
        for i in range(NUM_NODES):
            for e in range(epoch, epoch + head_epochs):
                for batch in data.epoch(i, e):
                    found = data.gradient(i, np.concatenate([u[i] / w[i], h[i]]), batch)[BODY:]
                    m_h[i] = momentum * m_h[i] + found
                    h[i] = h[i] - lr * m_h[i]
            for e in range(epoch + head_epochs, epoch + head_epochs + body_epochs):
                for batch in data.epoch(i, e):
                    found = data.gradient(i, np.concatenate([u[i] / w[i], h[i]]), batch)[:BODY]
                    m_u[i] = momentum * m_u[i] + found
                    u[i] = u[i] - lr * m_u[i]
        epoch += head_epochs + body_epochs
        u, w = matrix_of(index) @ u, matrix_of(index) @ w
    return u, h, w


def close(found, expected):
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("where", "head_epochs", "body_epochs", "momentum"), [("hub", 2, 1, MOMENTUM), ("ring", 1, 2, 0.0)]
)
def test_fedrep(where, head_epochs, body_epochs, momentum):
    graph = HUB if where == "hub" else RING
    matrix = np.tile(TRAIN_SIZES / TRAIN_SIZES.sum(), (NUM_NODES, 1)) if graph is HUB else RING.edges(0).to_matrix(4)
    problem = make_problem()
    algorithm = make(FedRep, head_epochs=head_epochs, body_epochs=body_epochs, momentum=momentum)
    state, network = run(algorithm, problem, graph, NUM_ROUNDS)
    u, h, w = reference(TwoLayers(problem), lambda _: matrix, head_epochs, body_epochs, momentum)
    np.testing.assert_allclose(w, 1, rtol=0, atol=1e-14)
    close(algorithm.estimate(state), np.concatenate([u, h], axis=1))
    assert np.ptp(h, axis=0).max() > 0.05
    # Only bodies are sent, in float64.
    edges = 2 * (NUM_NODES - 1) if graph is HUB else 2 * NUM_NODES
    assert network.ledger.bytes == NUM_ROUNDS * edges * 8 * BODY


@pytest.mark.parametrize(("head_epochs", "body_epochs", "momentum"), [(2, 1, MOMENTUM), (1, 2, 0.0)])
def test_dfedpgp(head_epochs, body_epochs, momentum):
    problem = make_problem()
    algorithm = make(DFedPGP, head_epochs=head_epochs, body_epochs=body_epochs, momentum=momentum)
    state, network = run(algorithm, problem, DIRECTED, NUM_ROUNDS)
    matrices = [DIRECTED.edges(step).to_matrix(NUM_NODES) for step in range(NUM_ROUNDS)]
    u, h, w = reference(TwoLayers(problem), lambda t: matrices[t], head_epochs, body_epochs, momentum)
    for name, expected in (("body", u), ("head", h), ("push_sum_weight", w)):
        close(state[name], expected)
    close(algorithm.estimate(state), np.concatenate([u / w[:, None], h], axis=1))
    assert np.ptp(w) > 0.1
    # Bodies and weights are sent, in float64.
    edges = sum(np.count_nonzero(matrix - np.diag(np.diag(matrix))) for matrix in matrices)
    assert network.ledger.bytes == edges * 8 * (BODY + 1)


@pytest.mark.parametrize("graph", [DIRECTED, MessageDelay(graph=DIRECTED, max_delay=3)], ids=["in time", "late"])
def test_a_round_of_push_sum_keeps_the_sums(graph):
    """Rates too small to move anything: what nodes and mailboxes hold together stays, and bodies come to its mean."""
    problem = make_problem()
    algorithm = make(DFedPGP, lr=1e-300, local_steps=1, head_epochs=0)
    state, network = run(algorithm, problem, graph, 0)
    state["body"].add_(
        torch.randn(state["body"].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )
    mean = state["body"].mean(dim=0)
    for step in range(150):
        state = algorithm.step(state, step, problem, network)
    for name, expected in (("body", mean), ("push_sum_weight", torch.tensor(1.0, dtype=torch.float64))):
        waiting = state.get(f"in_flight/{name}")
        total = state[name].sum(dim=0) + (0 if waiting is None else waiting.sum(dim=(0, 1)))
        torch.testing.assert_close(total, NUM_NODES * expected, rtol=0, atol=1e-12)
    found = algorithm.estimate(state)[:, :BODY]
    torch.testing.assert_close(found, mean.expand_as(found), rtol=0, atol=1e-9)


def test_with_doubly_stochastic_weights_both_are_one():
    problem = make_problem()
    found, expected = (run(make(kind), problem, PEERS, NUM_ROUNDS)[0] for kind in (DFedPGP, FedRep))
    torch.testing.assert_close(make(DFedPGP).estimate(found), expected["params"], rtol=0, atol=1e-13)


def test_without_epochs_of_the_head_it_stays():
    """One body step with full batches is that of FedAvg; later ones are not, because FedAvg moves heads too."""
    settings = {"lr_schedule": Constant(), "local_steps": 1, "momentum": 0.0}
    problem = build("classification", sizes=SIZES, hidden=(WIDTH,), weight_decay=DECAY, batch_size=None)
    start = problem.init_params()
    found, _ = run(make(FedRep, head_epochs=0, **settings), problem, HUB, 1)
    fedavg = FedAvg(lr=LR, adaptation_epochs=0, adaptation_lr=None, **settings)
    expected, _ = run(fedavg, problem, HUB, 1)
    torch.testing.assert_close(found["params"][:, BODY:], start[:, BODY:], rtol=0, atol=0)
    torch.testing.assert_close(found["params"][:, :BODY], expected["params"][:, :BODY], rtol=0, atol=1e-14)
    # A head step before it is that of local training.
    found, _ = run(make(FedRep, head_epochs=1, **settings), problem, HUB, 1)
    local, _ = run(fedavg, problem, SelfLoop(num_nodes=NUM_NODES), 1)
    torch.testing.assert_close(found["params"][:, BODY:], local["params"][:, BODY:], rtol=0, atol=1e-14)
    assert (found["params"][:, :BODY] - expected["params"][:, :BODY]).abs().max() > 1e-4


@pytest.mark.parametrize("kind", [FedRep, DFedPGP])
def test_bad_settings_are_refused(kind):
    for changes, message in (
        ({"head_epochs": -1}, r"algorithm\.head_epochs=-1: expected .*at least 0"),
        ({"body_epochs": 0}, r"algorithm\.body_epochs=0: expected .*at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make(kind, **changes)
    with pytest.raises(ValueError, match=r"algorithm\.private_layers=2: the model has 2 layers with parameters"):
        run(make(kind, private_layers=2), make_problem(), RING, 0)


def test_which_graphs_they_take():
    for graph in (DIRECTED, PEERS, RING):
        check_weights(make(DFedPGP), graph)
    with pytest.raises(ValueError, match="algorithm=dfedpgp needs column-stochastic or doubly stochastic weights"):
        check_weights(make(DFedPGP), HUB)
    with pytest.raises(ValueError, match="algorithm=fedrep needs graph=hub or doubly stochastic weights"):
        make(FedRep).check_graph(DIRECTED)
