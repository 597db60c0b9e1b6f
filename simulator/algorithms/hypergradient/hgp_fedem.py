"""HGP over local epochs: hypergradient push where nodes train as in decentralized FedAvg.

Update equations: as HGP (see hgp.py), with inner_steps rounds of local training (see local_training.py) for SGP:
    x_i <- a local epoch of SGD with momentum on f_i(., h_i) from x_i;    x_i <- sum_j W_t[i, j] x_j
There are no push-sum weights in training; the hypergradient push has its own.
State: ``params`` [N, D], ``hparams`` [N, H], ``hypergradient`` [N, H], ``adam_mean`` [N, H], ``adam_square`` [N, H];
with momentum also ``momentum`` [N, D].
Needs: doubly stochastic W; a bilevel problem.
Sends: D numbers per edge and round of training; depth * num_pushes rounds of D + 1 numbers per hypergradient.
Source: Terashita and Hara, arXiv 2210.02129, personalization in the setting of FedEM (Marfoq et al., arXiv 2108.10252).
Departures: on the fully connected graph the average of training counts every node once, as that of the hypergradient
does; there the former is weighted with the nodes' numbers of samples.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.local_training import (
    gradient_of,
    local_batches,
    require_local_steps,
    require_momentum,
    train_locally_,
)
from simulator.algorithms.hypergradient.hgp import HypergradientPush
from simulator.algorithms.weights import Weights
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class HGPFedEM(HypergradientPush):
    """Hypergradient push over local epochs.

    Args:
        momentum: heavy-ball coefficient in [0, 1).
        local_steps: minibatches per round; None for one epoch. The others as in :class:`HypergradientPush`.
    """

    weights: ClassVar[Weights] = Weights.DOUBLY_STOCHASTIC
    push_sum_alternative: ClassVar[str] = "hgp"

    momentum: float
    local_steps: int | None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_momentum(self.momentum)
        require_local_steps(self.local_steps)

    def init_training(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        return {"params": params, "momentum": zeros_as(params)} if self.momentum else {"params": params}

    def train(self, state: State, inner_step: int, problem: Problem, network: Network) -> State:
        params = state["params"]
        train_locally_(
            params,
            gradient_of(problem, state["hparams"]),
            local_batches(problem, inner_step, self.local_steps),
            lr=self.lr * self.lr_schedule.factor(inner_step),
            momentum=self.momentum,
            velocity=state.get("momentum"),
        )
        (mixed,) = network.mix((params,), inner_step)
        return {"params": mixed, "momentum": state["momentum"]} if self.momentum else {"params": mixed}

    def estimate(self, state: State) -> Tensor:
        return state["params"]
