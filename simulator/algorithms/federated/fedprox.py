"""FedProx: local epochs with a proximal term towards the last average, then an average.

Update equations, one step being one round (see local_training.py), with c = x_i at the start of the round:
    x_i <- a local epoch of  x_i <- x_i - lr (grad f_i(x_i; batch) + proximity (x_i - c));
    then an average as in FedAvg.
State: ``params`` [N, D].
Needs: graph=hub or doubly stochastic W.
Sends: as FedAvg, D numbers up and D numbers down for every node but the hub, or D per edge.
Source: Li et al., MLSys 2020 (arXiv 1812.06127), algorithm 2.
Departures: the local problem is not solved to an accuracy but for one epoch, without momentum, as in Marfoq et al.,
NeurIPS 2021 (arXiv 2108.10252); all nodes take part in every round.
"""

from dataclasses import dataclass

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.local_training import LocalTraining, average, train_locally_
from simulator.arrays import IntArray
from simulator.checks import require_at_least
from simulator.network.network import Network
from simulator.padding import copy_as
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class ProximalTraining(LocalTraining):
    """Local training that is pulled towards a centre.

    Args:
        lr, lr_schedule, local_steps: as :class:`LocalTraining`.
        proximity: coefficient of the squared distance to the centre, at least 0.
    """

    proximity: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("algorithm.proximity", self.proximity, 0)

    def proximal_epoch_(
        self,
        params: Tensor,
        centre: Tensor,
        problem: Problem,
        step: int,
        *,
        momentum: float = 0.0,
        velocity: Tensor | None = None,
    ) -> None:
        """A local epoch of proximal SGD towards ``centre`` [N, D], in place of ``params`` [N, D].

        Args:
            momentum: heavy-ball coefficient; velocity: its state [N, D], None without momentum.
        """
        hparams = problem.init_hparams()

        def gradient(x: Tensor, steps: IntArray) -> Tensor:
            return problem.grad_at(x, hparams, steps).add_(x - centre, alpha=self.proximity)

        batches = self.batches(problem, step)
        train_locally_(params, gradient, batches, lr=self.rate(step), momentum=momentum, velocity=velocity)


@dataclass(frozen=True, kw_only=True)
class FedProx(ProximalTraining):
    """Federated averaging with a proximal term.

    Args:
        lr, lr_schedule, local_steps: of the local training.
        proximity: coefficient of the squared distance to the last average (mu in the paper).
    """

    def init(self, problem: Problem, network: Network) -> State:
        return {"params": problem.init_params()}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        params = state["params"]
        self.proximal_epoch_(params, copy_as(params), problem, step)
        (averaged,) = average((params,), step, problem, network)
        return {"params": averaged}

    def estimate(self, state: State) -> Tensor:
        return state["params"]
