"""Scaffnew on a graph (decentralized ProxSkip): corrected gradient steps, with mixing after a random share of them.

Update equations of one step, with learning rate a, and one coin for all nodes that says "meet" with probability p; c is
0 at the start:
    u_i = x_i - a (grad f_i(x_i) + c_i)
    meet:       x_i <- u_i - r (u_i - sum_j W[i, j] u_j),    c_i <- c_i + p / a (u_i - x_i)
    otherwise:  x_i <- u_i
The sum over nodes of c stays 0. With p = 1 this is exact diffusion.
Needs: symmetric, doubly stochastic W; a static graph; (1 - r) I + r W with eigenvalues above -1/3, as r = 1/2 has
everywhere.
Sends: D numbers per edge in a share p of the steps, nothing in the others.
Source: Mishchenko, Malinovsky, Stich and Richtarik, ICML 2022 (arXiv 2202.09357), Scaffnew, and its decentralized form,
SplitSkip with gamma tau / p = r; h there is -c here. A re-implementation of the published idea: the equations of the
decentralized form are those of a public implementation of Guo, Alghunaim, Yuan, Condat and Cao (arXiv 2310.07983), with
beta = p.
Departures: minibatches; learning rates may change over time, and c keeps its value then.
"""

from dataclasses import dataclass

from simulator.algorithms.base import State
from simulator.algorithms.primal_dual.base import RelaxedMixing
from simulator.algorithms.primal_dual.local_correction import LocalCorrection, descend_, relax_
from simulator.checks import require_within
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.randomness import generator


@dataclass(frozen=True, kw_only=True)
class Scaffnew(RelaxedMixing, LocalCorrection):
    """Scaffnew.

    Args:
        lr, lr_schedule, relaxation: as :class:`RelaxedMixing`.
        probability: p, in (0, 1].
        seed: keys the coin.
    """

    probability: float
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_within("algorithm.probability", self.probability, "(0, 1]")

    def meets(self, step: int) -> bool:
        """Whether the nodes mix after ``step``."""
        return float(generator(self.seed, "scaffnew", step=step).random()) < self.probability

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        lr = self.rate(step)
        descend_(state, problem, (step,), lr)
        if self.meets(step):
            relax_(state, network, step, self.relaxation, self.probability / lr)
        return state
