"""FedAvg: local epochs, then an average; over a hub, or over any doubly stochastic graph.

Update equations, one step being one round (see local_training.py):
    x_i <- a local epoch of SGD with momentum from x_i;    x_i <- sum_j n_j x_j / sum_j n_j over the hub,
    or x_i <- sum_j W_t[i, j] x_j elsewhere (decentralized FedAvg; with graph=self_loop local training).
With adaptation_epochs > 0 what is evaluated is a copy that has been trained at its node for that many epochs more,
from the average, with momentum of its own and the constant rate adaptation_lr (FedAvg + local adaptation). All metrics,
the consensus distance too, are those of the adapted copies.
State: ``params`` [N, D]; with momentum also ``momentum`` [N, D]; with local adaptation also ``rounds`` [N].
Needs: graph=hub or doubly stochastic W.
Sends: over the hub D numbers from every other node up and D numbers down, 2 (M - 1) D per step; else D per edge.
Source: McMahan et al., AISTATS 2017 (arXiv 1602.05629), algorithm 1; local adaptation, momentum and the decentralized
form as in Marfoq et al., NeurIPS 2021 (arXiv 2108.10252).
Departures: all nodes take part in every round; the hub has data of its own.
"""

from dataclasses import dataclass
from itertools import chain

from simulator.algorithms.base import State
from simulator.algorithms.federated.local_training import MomentumTraining, average, gradient_of, train_locally_
from simulator.checks import require_at_least, require_positive
from simulator.network.network import Network
from simulator.padding import copy_as, zeros_as
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class FedAvg(MomentumTraining):
    """Federated averaging.

    Args:
        lr, lr_schedule, local_steps, momentum: of the local training.
        adaptation_epochs: epochs that a copy of the model is trained at its node before it is evaluated.
        adaptation_lr: rate of these epochs, whatever the round; None for lr.
    """

    adaptation_epochs: int
    adaptation_lr: float | None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("algorithm.adaptation_epochs", self.adaptation_epochs, 0)
        if self.adaptation_lr is not None:
            require_positive("algorithm.adaptation_lr", self.adaptation_lr)

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        if self.adaptation_epochs:
            state["rounds"] = state["params"].new_zeros(len(state["params"]))
        return state

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        self.train_(state, gradient_of(problem, problem.init_hparams()), step, problem)
        (averaged,) = average((state["params"],), step, problem, network)
        new = {**state, "params": averaged}
        return {**new, "rounds": state["rounds"] + 1} if self.adaptation_epochs else new

    def prepare_evaluation(self, state: State, problem: Problem, network: Network) -> State:
        """With local adaptation the models are replaced by adapted copies; before the first round nothing adapts."""
        rounds = int(state["rounds"][0]) if self.adaptation_epochs else 0
        if rounds == 0:
            return state
        adapted = copy_as(state["params"])
        train_locally_(
            adapted,
            gradient_of(problem, problem.init_hparams()),
            chain.from_iterable(self.batches(problem, rounds + epoch) for epoch in range(self.adaptation_epochs)),
            lr=self.lr if self.adaptation_lr is None else self.adaptation_lr,
            momentum=self.momentum,
            velocity=zeros_as(adapted) if self.momentum else None,
        )
        return {**state, "params": adapted}
