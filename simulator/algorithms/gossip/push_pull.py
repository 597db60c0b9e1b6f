"""Push-pull (AB): gradient tracking on directed graphs without push-sum weights.

Models are mixed with row-stochastic weights, and trackers with column-stochastic ones.

Update equations, with R_t row-stochastic and C_t column-stochastic on the edges of one directed graph, learning rate
a_t, y_0 = grad f(x_0) and g_t = grad f(x_t) on the minibatch of step t:
    adapt-then-combine (push-pull):  x_{t+1} = R_t (x_t - a_t y_t)
    combine-and-adapt (AB):          x_{t+1} = R_t x_t - a_t y_t
    both:                            y_{t+1} = C_t y_t + g_{t+1} - g_t
The sum over nodes of y is that of g at every step. R_t pulls the nodes together, at a mean weighted by its left Perron
vector, where gradient descent with R_t alone would minimise the objectives weighted in the same way; C_t pushes shares
of the gradients of all nodes to each, whatever these weights are.
With exact gradients a constant rate reaches the minimiser of the mean objective. With minibatches this is stochastic
push-pull: the same steps with a gradient of one minibatch in each, whose noise leaves an error proportional to a_t.
Where the schedule's weights are column-stochastic, they are C_t, and R_t is the plain mean of what a node hears. Where
they are row-stochastic, they are R_t, and C_t shares equally among those who hear. Doubly stochastic weights are both;
combine-and-adapt is then DIGing.
State: ``params`` [N, D], ``gradient`` [N, D], ``tracker`` [N, D].
Needs: nothing of the weights; any schedule.
Sends: 2 D numbers per edge and step, in one message: both rows along every edge, weighted where they arrive.
Source: Pu, Shi, Xu and Nedic, IEEE TAC 2021 (arXiv 1810.06653) for push-pull; Xin and Khan, IEEE Control Systems
Letters 2018 (arXiv 1803.02503) for AB; Saadatniaki, Xin and Khan, IEEE TAC 2020 (arXiv 1810.07393) for graphs that
change; Liang, Luo and Yuan (arXiv 2506.18075) for stochastic push-pull.
Departures: both matrices live on the same edges; learning rates may change over time.
"""

from dataclasses import dataclass
from typing import ClassVar

from simulator.algorithms.base import State
from simulator.algorithms.gossip.tracked_steps import TrackedSteps
from simulator.algorithms.weights import Weights
from simulator.graphs.normalized import Normalized
from simulator.network.network import Network
from simulator.network.plans import Plan
from simulator.problems.base import Problem


class Sides:
    """A network's rounds with row-stochastic and with column-stochastic weights on its edges."""

    def __init__(self, network: Network) -> None:
        self._rows = network.over(Normalized(network.graph, "row"))
        self._columns = network.over(Normalized(network.graph, "column"))

    def plans(self, step: int) -> tuple[Plan, Plan]:
        """Round ``step`` with R and with C."""
        return self._rows.plan(step), self._columns.plan(step)


@dataclass(frozen=True, kw_only=True)
class PushPull(TrackedSteps):
    """Gradient tracking with two matrices.

    Args:
        lr, lr_schedule, order: as :class:`TrackedSteps`.
    """

    weights: ClassVar[Weights] = Weights.ANY

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        x, y, lr = state["params"], state["tracker"], self.rate(step)
        sides = network.kept(Sides, lambda: Sides(network))
        if self.order == "adapt_then_combine":
            x.sub_(y, alpha=lr)
        mixed, tracker = network.post((x, y), step).mixed_by(sides.plans(step))
        if self.order == "combine_and_adapt":
            mixed.sub_(y, alpha=lr)
        gradient = problem.grad(mixed, problem.init_hparams(), step + 1)
        tracker.add_(gradient).sub_(state["gradient"])
        return {"params": mixed, "gradient": gradient, "tracker": tracker}
