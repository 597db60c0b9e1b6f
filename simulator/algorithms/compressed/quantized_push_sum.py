"""Quantized push-sum: stochastic gradient push whose messages are compressed residuals against shared references.

Update equations, with P column-stochastic, push-sum weights w_i (1 at the start, sent as they are), debiased z_i =
x_i / w_i, learning rate a_t, consensus step gamma and compressor Q; on a static graph, with references of x:
    x_i <- x_i - a_t grad f_i(z_i)
    q_i = Q(x_i - x^_i),    x^_i <- x^_i + q_i  (at i and at those it sends to)
    x_i <- x_i + gamma (sum_j P[i, j] x^_j - x^_i),    w_i <- w_i + gamma (sum_j P[i, j] w_j - w_i)
On a schedule that changes, w and x never settle, and references of x would never be right. There they are of z, kept by
link (see references.py), z^_ij being what j knows of i:
    q_ij = Q(z_i - z^_ij),    z^_ij <- z^_ij + q_ij    for those j that i sends to in this round
    x_i <- x_i + gamma (sum_j P_t[i, j] w_j z^_ji - sum_j P_t[j, i] w_i z^_ij),    w_i as above with P_t
With Q(v) = v and gamma = 1 both are SGP.
State: ``params`` [N, D], ``push_sum_weight`` [N]; on a static graph also ``quantized_push_sum/reference`` [N, 1, D],
``quantized_push_sum/mixed`` [N, 1, D]; on other graphs, with S links that a node may ever have, also
``quantized_push_sum/sent`` [N, S, 1, D], ``quantized_push_sum/received`` [N, S, 1, D],
``quantized_push_sum/disagreement`` [N, 1, D].
Needs: column-stochastic P (doubly stochastic is a special case: all weights stay 1); a contraction as Q.
Sends: one compressed row of D columns and one number per edge and step, in one message.
Source: Taheri, Mokhtari, Hassani and Pedarsani, ICML 2020 (arXiv 2002.09964), algorithm 2, for static graphs.
Departures: Q may be biased; the paper assumes E Q(v) = v and an error much smaller than v, which mild compression with
compressor.unbiased=true gives (qsgd with 64 levels, for example). The consensus step gamma, 1 in the paper, mixes with
(1 - gamma) I + gamma P. References start at the common starting point, which everybody knows, instead of 0.
Schedules may change.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from simulator.algorithms.base import Algorithm, State
from simulator.algorithms.compressed.references import References
from simulator.algorithms.push_sum import debias
from simulator.algorithms.weights import Weights
from simulator.checks import require_positive
from simulator.compressors.base import Compressor
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class QuantizedPushSum(Algorithm):
    """Stochastic gradient push with compressed messages.

    Args:
        compressor: Q.
        seed: of the draws of random compressors.
        consensus_lr: gamma in (0, 1]; None for the compressor's.
        lr: learning rate; lr_schedule: its factor at each step.
    """

    weights: ClassVar[Weights] = Weights.COLUMN_STOCHASTIC
    uses_compressor = True
    keeps_agreement: ClassVar[bool] = False  # on static graphs x moves to the share of its node, and compressed at that

    compressor: Compressor
    seed: int
    consensus_lr: float | None
    lr: float
    lr_schedule: Schedule

    def __post_init__(self) -> None:
        require_positive("algorithm.lr", self.lr)
        if self.consensus_lr is not None and not 0 < self.consensus_lr <= 1:
            raise ValueError(
                f"algorithm.consensus_lr={self.consensus_lr}: expected a number in (0, 1], or null for the compressor's"
            )

    @property
    def references(self) -> References:
        """What the nodes know of each other's parameters."""
        return References(self.compressor, self.seed, "quantized_push_sum")

    def init(self, problem: Problem, network: Network) -> State:
        params = problem.init_params()
        return {
            "params": params,
            "push_sum_weight": params.new_ones(len(params)),
            **self.references.init(params[:, None], network, known=True),
        }

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        x, weight, lr = state["params"], state["push_sum_weight"], self.lr * self.lr_schedule.factor(step)
        gamma = self.compressor.consensus_lr if self.consensus_lr is None else self.consensus_lr
        problem.add_grad_(x, debias(x, weight), problem.init_hparams(), step, -lr)
        pushed = self.references.push_(state, x[:, None], weight, network, step)
        x.add_(self.references.disagreement(state)[:, 0], alpha=gamma)
        weight.lerp_(pushed, gamma)
        return state

    def estimate(self, state: State) -> Tensor:
        return debias(state["params"], state["push_sum_weight"])
