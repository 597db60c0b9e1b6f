"""HGP over local epochs: an outer step against FedAvg's training and the hypergradient push at its end."""

import numpy as np
import pytest
import torch

from simulator.algorithms.hypergradient.hgp_fedem import HGPFedEM
from simulator.algorithms.weights import check_weights
from simulator.graphs.fully_connected import FullyConnected
from simulator.graphs.random_directed import RandomDirected
from simulator.hypergradients.push import push_hypergradient
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.schedules import MultiStep
from tests.algorithms.node_data import NUM_NODES, make_problem, run

INNER_STEPS, LR, MOMENTUM, OUTER_LR = 3, 0.2, 0.9, 0.1
GRAPH = FullyConnected(num_nodes=NUM_NODES)
PUSH = {"depth": 4, "num_pushes": 2, "step_size": 0.1}

pytestmark = pytest.mark.usefixtures("one_thread")


def make(**changes):
    settings = {
        "lr": LR,
        "lr_schedule": MultiStep(milestones=[2], decay=0.5),
        "momentum": MOMENTUM,
        "local_steps": None,
        "inner_steps": INNER_STEPS,
        "outer_lr": OUTER_LR,
        "rule": "debiased",
        "minibatch": False,
        "independent_batches": True,
        "reset_weights": True,
        "reference": "none",
        "reference_tolerance": 1e-6,
        "reference_max_iterations": 10,
        **PUSH,
    }
    return HGPFedEM(**{**settings, **changes})


def train(problem, hparams):
    """Local epochs with momentum, written with one gradient per node and minibatch."""
    x = problem.init_params()
    velocity = torch.zeros_like(x)
    lengths = [2, 3, 1, 5]
    for index in range(INNER_STEPS):
        lr = LR * (0.5 if index >= 2 else 1.0)
        for i, length in enumerate(lengths):
            for step in range(index * length, (index + 1) * length):
                velocity[i] = MOMENTUM * velocity[i] + problem.grad(x, hparams, step)[i]
                x[i] -= lr * velocity[i]
        x = x.mean(dim=0, keepdim=True).expand(NUM_NODES, -1).clone()
    return x


def test_two_outer_steps():
    problem = make_problem("logit_scaling", outer_split="train")
    network = Network(GRAPH, Placement(NUM_NODES), torch.device("cpu"))
    hparams = problem.init_hparams()
    for outer_step in range(2):
        x = train(problem, hparams)
        state, _ = run(make(), problem, GRAPH, (outer_step + 1) * INNER_STEPS)
        torch.testing.assert_close(make().estimate(state), x, rtol=0, atol=1e-12)
        torch.testing.assert_close(state["hparams"], hparams, rtol=0, atol=1e-12)
        expected = push_hypergradient(problem, network, x, hparams, first_round=INNER_STEPS, **PUSH)
        torch.testing.assert_close(state["hypergradient"], expected, rtol=0, atol=1e-12)
        assert expected.abs().max() > 1e-4
        # Adam's first step is the rate times the sign.
        hparams = hparams - OUTER_LR * expected / (expected.abs() + 1e-8)
    assert hparams.abs().max() > 0.09


def test_bytes():
    problem = make_problem("logit_scaling")
    _, network = run(make(), problem, GRAPH, INNER_STEPS)
    edges = NUM_NODES * (NUM_NODES - 1)
    counts = {name: traffic.bytes for name, traffic in network.ledger.phases.items()}
    assert counts["inner"] == INNER_STEPS * edges * 8 * problem.num_params
    assert counts["hypergradient"] == 4 * 2 * edges * 8 * (problem.num_params + 1)


def test_pushes_do_not_matter_where_one_averages_exactly():
    problem = make_problem("logit_scaling")
    few, _ = run(make(num_pushes=1), problem, GRAPH, INNER_STEPS)
    many, _ = run(make(num_pushes=10), problem, GRAPH, INNER_STEPS)
    torch.testing.assert_close(few["hypergradient"], many["hypergradient"], rtol=0, atol=1e-13)
    assert np.isfinite(few["hypergradient"].numpy()).all()


def test_refuses():
    with pytest.raises(ValueError, match=r"algorithm=hgp_fedem needs doubly stochastic weights.*use algorithm=hgp"):
        check_weights(make(), RandomDirected(num_nodes=NUM_NODES, rate_low=0.4, rate_high=0.8))
    for changes in ({"momentum": 1.0}, {"local_steps": 0}, {"lr": -1.0}, {"depth": 0}):
        (key,) = changes
        with pytest.raises(ValueError, match=rf"algorithm\.{key}=.*expected"):
            make(**changes)
