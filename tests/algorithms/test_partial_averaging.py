"""FedPer and LG-FedAvg against plain autograd, node by node, and what they are when all or nothing is shared."""

import numpy as np
import pytest
import torch

from simulator.algorithms.federated.fedavg import FedAvg
from simulator.algorithms.federated.fedper import FedPer
from simulator.algorithms.federated.lg_fedavg import LGFedAvg
from simulator.graphs.hub import Hub
from simulator.graphs.ring import Ring
from simulator.graphs.self_loop import SelfLoop
from simulator.models.lenet import LeNet
from simulator.problems.quadratic import Quadratic
from simulator.rows import RowLayout
from simulator.schedules import Constant, MultiStep
from tests.algorithms.node_data import DECAY, NUM_NODES, SIZES, TRAIN_SIZES, Regression, run
from tests.problems.conftest import Objectives, build

LR, MOMENTUM, NUM_ROUNDS = 0.2, 0.9, 4
HUB, RING = Hub(num_nodes=NUM_NODES), Ring(num_nodes=NUM_NODES)
MEAN = np.tile(TRAIN_SIZES / TRAIN_SIZES.sum(), (NUM_NODES, 1))
GRAPHS = {"hub": (HUB, MEAN), "ring": (RING, RING.edges(0).to_matrix(NUM_NODES))}
# Layers of 4 -> 5 -> 6 -> 3, each a weight and a bias.
HIDDEN, LAYER_SIZES = (5, 6), (25, 36, 21)

pytestmark = pytest.mark.usefixtures("one_thread")


def make(kind, **changes):
    own = {
        FedPer: {"private_layers": 1},
        LGFedAvg: {"shared_layers": 1},
        FedAvg: {"adaptation_epochs": 0, "adaptation_lr": None},
    }[kind]
    settings = {"lr": LR, "lr_schedule": MultiStep(milestones=[2], decay=0.5), "local_steps": None}
    return kind(**{**settings, "momentum": MOMENTUM, **own, **changes})


def make_problem(**changes):
    return build("classification", sizes=SIZES, hidden=HIDDEN, weight_decay=DECAY, **changes)


def reference(problem, matrix, is_shared, momentum):
    """NUM_ROUNDS of local epochs with autograd; ``is_shared`` marks the columns that are averaged, [D]."""
    objectives, data = Objectives("classification", problem, SIZES), Regression(problem)
    nothing = torch.zeros(0, dtype=torch.float64)
    x = np.tile(data.start, (NUM_NODES, 1))
    velocity = np.zeros_like(x)
    for index in range(NUM_ROUNDS):
        lr = LR * (0.5 if index >= 2 else 1.0)
        for i in range(NUM_NODES):
            for batch in data.epoch(i, index):
                row = torch.from_numpy(x[i]).requires_grad_()
                (gradient,) = torch.autograd.grad(objectives.inner(i, row, nothing, batch), row)
                velocity[i] = momentum * velocity[i] + gradient.numpy()
                x[i] = x[i] - lr * velocity[i]
        x = np.where(is_shared, matrix @ x, x)
    return x


@pytest.mark.parametrize("where", GRAPHS)
@pytest.mark.parametrize(
    ("kind", "count", "num_shared"),
    [(FedPer, 1, (1, 1, 0)), (FedPer, 2, (1, 0, 0)), (LGFedAvg, 1, (0, 0, 1)), (LGFedAvg, 2, (0, 1, 1))],
)
def test_some_layers_are_averaged(where, kind, count, num_shared):
    graph, matrix = GRAPHS[where]
    is_shared = np.repeat(np.array(num_shared, dtype=bool), LAYER_SIZES)
    (setting,) = {"private_layers", "shared_layers"} & {*kind.__dataclass_fields__}
    momentum = MOMENTUM if count == 1 else 0.0
    problem = make_problem()
    state, network = run(make(kind, momentum=momentum, **{setting: count}), problem, graph, NUM_ROUNDS)
    expected = reference(make_problem(), matrix, is_shared, momentum)
    np.testing.assert_allclose(state["params"].numpy(), expected, rtol=0, atol=1e-12)
    spread = np.ptp(expected, axis=0)
    assert spread[~is_shared].max() > 0.05
    # Only shared layers are sent, in float64.
    edges = 2 * (NUM_NODES - 1) if graph is HUB else 2 * NUM_NODES
    assert network.ledger.bytes == NUM_ROUNDS * edges * 8 * is_shared.sum()
    if graph is HUB:
        assert spread[is_shared].max() == 0


def test_between_fedavg_and_local_training():
    """What is shared by one of them is private in the other; together they are FedAvg, apart local training."""
    problem = make_problem()
    settings = {"momentum": 0.0, "lr_schedule": Constant()}
    fedavg, _ = run(make(FedAvg, **settings), problem, HUB, 1)
    local, _ = run(make(FedAvg, **settings), problem, SelfLoop(num_nodes=NUM_NODES), 1)
    fedper, _ = run(make(FedPer, **settings), problem, HUB, 1)
    lg_fedavg, _ = run(make(LGFedAvg, **settings), problem, HUB, 1)
    last = slice(sum(LAYER_SIZES[:-1]), None)
    torch.testing.assert_close(fedper["params"][:, last], local["params"][:, last], rtol=0, atol=0)
    torch.testing.assert_close(lg_fedavg["params"][:, last], fedavg["params"][:, last], rtol=0, atol=1e-14)
    first = slice(0, sum(LAYER_SIZES[:-1]))
    torch.testing.assert_close(fedper["params"][:, first], fedavg["params"][:, first], rtol=0, atol=1e-14)
    torch.testing.assert_close(lg_fedavg["params"][:, first], local["params"][:, first], rtol=0, atol=0)


def test_layers_of_lenet():
    layout = RowLayout(LeNet(input_shape=(3, 32, 32), num_classes=10, num_kernels=16))
    assert layout.layer_sizes == (1216, 12832, 96120, 10164, 850)
    assert make(FedPer).shared_columns(layout.layer_sizes) == slice(0, 120332)
    assert make(LGFedAvg, shared_layers=2).shared_columns(layout.layer_sizes) == slice(110168, 121182)


@pytest.mark.parametrize(
    ("kind", "name", "setting"), [(FedPer, "fedper", "private_layers"), (LGFedAvg, "lg_fedavg", "shared_layers")]
)
def test_bad_settings_are_refused(kind, name, setting):
    for count in (0, 3, 4):
        with pytest.raises(ValueError, match=rf"algorithm\.{setting}={count}: the model has 3 layers with parameters"):
            run(make(kind, **{setting: count}), make_problem(), HUB, 0)
    with pytest.raises(ValueError, match=r"algorithm\.momentum=1\.0: expected"):
        make(kind, momentum=1.0)
    quadratic = Quadratic(
        dim=3, num_hyperparameters=0, condition=2.0, heterogeneity=1.0, noise=0.0, outer_regularization=0.0
    )
    with pytest.raises(ValueError, match=rf"algorithm={name} shares layers .* needs problem=classification.*Quadratic"):
        make(kind).check_problem(quadratic)
