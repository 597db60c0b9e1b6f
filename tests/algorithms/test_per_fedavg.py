"""Per-FedAvg against NumPy, node by node: both variants, the exact Hessian, and adaptation before evaluations."""

import numpy as np
import pytest
import torch

from simulator import metrics
from simulator.algorithms.federated.fedavg import FedAvg
from simulator.algorithms.federated.per_fedavg import PerFedAvg
from simulator.graphs.hub import Hub
from simulator.graphs.ring import Ring
from simulator.schedules import Constant, MultiStep
from tests.algorithms.node_data import DECAY, NUM_NODES, TRAIN_SIZES, Regression, make_problem, run

LR, ADAPTATION_LR, DIFFERENCE, NUM_ROUNDS = 0.2, 0.3, 1e-3, 5
HUB, RING = Hub(num_nodes=NUM_NODES), Ring(num_nodes=NUM_NODES)
MEAN = np.tile(TRAIN_SIZES / TRAIN_SIZES.sum(), (NUM_NODES, 1))
GRAPHS = {"hub": (HUB, MEAN), "ring": (RING, RING.edges(0).to_matrix(NUM_NODES))}
PER_STEP = {"first_order": 2, "hessian_free": 3}
# Minibatches of four in an epoch of every node.
LENGTHS = -(-TRAIN_SIZES // 4)

pytestmark = pytest.mark.usefixtures("one_thread")


def make(**changes):
    settings = {"lr": LR, "lr_schedule": MultiStep(milestones=[2], decay=0.5), "local_steps": None}
    own = {"adaptation_lr": ADAPTATION_LR, "adaptation_steps": 1, "variant": "first_order", "difference": DIFFERENCE}
    return PerFedAvg(**{**settings, **own, **changes})


def hessian(data, i, row, batch):
    """Of the loss of :class:`Regression`, [D, D], in closed form."""
    x, p = data.inputs[data.rows[i][batch]], data.probabilities(i, row, batch)
    inputs = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    curved = np.einsum("bc,cd->bcd", p, np.eye(p.shape[1])) - np.einsum("bc,bd->bcd", p, p)
    # Classes by inputs, the bias being the last input; rows hold the weights first and then the biases.
    full = np.einsum("bcd,be,bf->cedf", curved, inputs, inputs) / len(x)
    num_classes, num_inputs = p.shape[1], inputs.shape[1]
    index = np.arange(num_classes * num_inputs).reshape(num_classes, num_inputs)
    order = np.concatenate([index[:, :-1].ravel(), index[:, -1]])
    return full.reshape(index.size, index.size)[np.ix_(order, order)] + DECAY * np.eye(index.size)


def reference(data, matrix, variant, local_steps=None):
    """NUM_ROUNDS; ``exact`` is ``hessian_free`` with the Hessian itself."""
    x = np.tile(data.start, (NUM_NODES, 1))
    per_step = PER_STEP.get(variant, 3)
    minibatches = [[batch for epoch in range(50) for batch in data.epoch(i, epoch)] for i in range(NUM_NODES)]
    used = [iter(batches) for batches in minibatches]
    for index in range(NUM_ROUNDS):
        lr = LR * (0.5 if index >= 2 else 1.0)
        for i in range(NUM_NODES):
            for _ in range(local_steps or max(LENGTHS[i] // per_step, 1)):
                batches = [next(used[i]) for _ in range(per_step)]
                z = x[i] - ADAPTATION_LR * data.gradient(i, x[i], batches[0])
                g = data.gradient(i, z, batches[1])
                if variant == "hessian_free":
                    ahead, behind = (data.gradient(i, x[i] + s * DIFFERENCE * g, batches[2]) for s in (1, -1))
                    g = g - ADAPTATION_LR * (ahead - behind) / (2 * DIFFERENCE)
                elif variant == "exact":
                    g = g - ADAPTATION_LR * hessian(data, i, x[i], batches[2]) @ g
                x[i] = x[i] - lr * g
        x = matrix @ x
    return x


@pytest.mark.parametrize("where", GRAPHS)
@pytest.mark.parametrize("variant", PER_STEP)
@pytest.mark.parametrize("local_steps", [None, 3])
def test_per_fedavg(where, variant, local_steps):
    graph, matrix = GRAPHS[where]
    problem = make_problem()
    state, network = run(make(variant=variant, local_steps=local_steps), problem, graph, NUM_ROUNDS)
    expected = reference(Regression(make_problem()), matrix, variant, local_steps)
    np.testing.assert_allclose(state["params"].numpy(), expected, rtol=0, atol=1e-12)
    edges = 2 * (NUM_NODES - 1) if graph is HUB else 2 * NUM_NODES
    assert network.ledger.bytes == NUM_ROUNDS * edges * 8 * problem.num_params


def test_finite_differences_stand_for_the_hessian():
    found, _ = run(make(variant="hessian_free", difference=1e-4), make_problem(), HUB, NUM_ROUNDS)
    exact = reference(Regression(make_problem()), MEAN, "exact")
    np.testing.assert_allclose(found["params"].numpy(), exact, rtol=0, atol=1e-8)
    first_order, _ = run(make(), make_problem(), HUB, NUM_ROUNDS)
    assert np.abs(first_order["params"].numpy() - exact).max() > 1e-2


def test_without_a_step_to_foresee_it_is_fedavg_on_every_second_minibatch():
    """With a full batch all minibatches are one, and a vanishing adaptation leaves gradient descent."""
    problem = make_problem(batch_size=None)
    settings = {"lr": LR, "lr_schedule": Constant(), "local_steps": 2}
    found, _ = run(make(**settings, adaptation_lr=1e-12), problem, HUB, NUM_ROUNDS)
    fedavg, _ = run(FedAvg(**settings, momentum=0.0, adaptation_epochs=0, adaptation_lr=None), problem, HUB, NUM_ROUNDS)
    torch.testing.assert_close(found["params"], fedavg["params"], rtol=0, atol=1e-11)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_nodes_are_evaluated_after_steps_of_their_own(steps):
    problem = make_problem()
    algorithm = make(adaptation_steps=steps)
    state, network = run(algorithm, problem, HUB, NUM_ROUNDS)
    before, data = state["params"].clone(), Regression(problem)
    evaluation = metrics.evaluate(algorithm, state, NUM_ROUNDS, problem, network)
    torch.testing.assert_close(state["params"], before, rtol=0, atol=0)
    adapted = before.numpy().copy()
    for i in range(NUM_NODES):
        for _ in range(steps):
            adapted[i] = adapted[i] - ADAPTATION_LR * data.gradient(i, adapted[i], np.arange(TRAIN_SIZES[i]))
    prepared = algorithm.prepare_evaluation(state, problem, network)
    np.testing.assert_allclose(algorithm.estimate(prepared).numpy(), adapted, rtol=0, atol=1e-12)
    for i, loss in enumerate(evaluation.per_node["train/loss"].tolist()):
        chances = data.likelihood(i, adapted[i], np.arange(TRAIN_SIZES[i]))
        assert loss == pytest.approx(-np.log(chances).mean(), abs=1e-10)
    assert (np.abs(adapted - before.numpy()).max() > 1e-2) == (steps > 0)


def test_bad_settings_are_refused():
    for changes, message in (
        ({"adaptation_lr": 0.0}, r"algorithm\.adaptation_lr=0\.0: expected a positive number"),
        ({"difference": 0.0}, r"algorithm\.difference=0\.0: expected a positive number"),
        ({"adaptation_steps": -1}, r"algorithm\.adaptation_steps=-1: expected at least 0"),
        ({"variant": "second_order"}, r"algorithm\.variant='second_order': expected first_order or hessian_free"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**changes)
