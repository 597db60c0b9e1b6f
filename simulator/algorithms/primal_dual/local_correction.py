"""The template of K-GT, LED and Scaffnew: local steps along corrected gradients, then a meeting that corrects anew.

Update equations of node i; the minibatches of its local steps follow each other:
    u <- u - a (grad f_i(u) + c_i), once for every local step, starting from u = x_i
How x_i and c_i follow from all u is the algorithm's. The sum over nodes of c always stays 0, whatever the noise.
State: ``params`` [N, D], ``correction`` [N, D].
"""

from collections.abc import Iterable
from dataclasses import dataclass

from simulator.algorithms.base import State
from simulator.algorithms.primal_dual.base import PrimalDual
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class LocalCorrection(PrimalDual):
    """Local steps with a correction.

    Args:
        lr, lr_schedule: as :class:`PrimalDual`.
    """

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        return {"params": params, "correction": zeros_as(params)}


def descend_(state: State, problem: Problem, batches: Iterable[int], lr: float) -> None:
    """Takes a local step for each minibatch of ``batches``: moves ``params`` in place."""
    params, correction = state["params"], state["correction"]
    for batch in batches:
        problem.add_grad_(params, params, problem.init_hparams(), batch, -lr)
        params.sub_(correction, alpha=lr)


def relax_(state: State, network: Network, step: int, relaxation: float, dual_lr: float) -> None:
    """The meeting of LED and Scaffnew, in place: x <- u - r (I - W) u,  c <- c + dual_lr r (I - W) u."""
    params = state["params"]
    (mixed,) = network.mix((params,), step)
    apart = mixed.neg_().add_(params)
    state["correction"].add_(apart, alpha=dual_lr * relaxation)
    params.sub_(apart, alpha=relaxation)
