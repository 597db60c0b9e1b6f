"""FedAvg: local epochs, then an average; over a hub, or over any doubly stochastic graph.

Update equations, one step being one round (see local_training.py):
    x_i <- a local epoch of SGD with momentum from x_i;    x_i <- sum_j n_j x_j / sum_j n_j over the hub,
    or x_i <- sum_j W_t[i, j] x_j elsewhere (decentralized FedAvg; with graph=self_loop local training).
With adaptation_epochs > 0 what is evaluated is a copy that has been trained at its node for that many epochs more,
from the average, with momentum of its own and the rate of the round (FedAvg + local adaptation).
Needs: graph=hub or doubly stochastic W.
Sends: over the hub D numbers from every other node up and D numbers down, 2 (M - 1) D per step; else D per edge.
Source: McMahan et al., AISTATS 2017 (arXiv 1602.05629), algorithm 1; local adaptation, momentum and the decentralized
form as in Marfoq et al., NeurIPS 2021 (arXiv 2108.10252).
Departures: all nodes take part in every round; the hub has data of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.local_training import MomentumTraining, average, gradient_of, train_locally_
from simulator.network.network import Network
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class FedAvg(MomentumTraining):
    """Federated averaging.

    Args:
        lr, lr_schedule, local_steps, momentum: of the local training.
        adaptation_epochs: epochs that a copy of the model is trained at its node before it is evaluated.
    """

    adaptation_epochs: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adaptation_epochs < 0:
            raise ValueError(f"algorithm.adaptation_epochs={self.adaptation_epochs}: expected at least 0")

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        self.train_(state, gradient_of(problem, problem.init_hparams()), step, problem)
        (averaged,) = average((state["params"],), step, problem, network)
        return {**state, "params": averaged}

    def diagnose(
        self, state: State, step: int, problem: Problem, network: Network, *, is_last: bool
    ) -> Mapping[str, float | Tensor]:
        """With local adaptation the metrics of the nodes are those of the adapted copies."""
        if not self.adaptation_epochs:
            return {}
        adapted, hparams = state["params"].clone(), problem.init_hparams()
        velocity = torch.zeros_like(adapted) if self.momentum else None
        for epoch in range(self.adaptation_epochs):
            train_locally_(
                adapted,
                gradient_of(problem, hparams),
                self.batches(problem, step + 1 + epoch),
                lr=self.rate(step),
                momentum=self.momentum,
                velocity=velocity,
            )
        return problem.evaluate(adapted, hparams)
