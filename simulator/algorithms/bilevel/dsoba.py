"""D-SOBA: a single loop; x, y and the adjoint variable z of every node are updated at once and then mixed.

Update equations (see linear_system.py for u_i and z), with step sizes a, b, c:
    r_i <- (1 - m) r_i + m u_i (r_i = u_i in step 0)
    x <- W (x - a r),    y <- W (y - b d_y g_i),    z <- W (z - c ((d2 g_i/dy2) z - d_y f_i))
Without correction of the differences between nodes the end is biased, in proportion to the step sizes.
Needs: symmetric, doubly stochastic W; any schedule; a bilevel problem, with second derivatives unless first_order.
Sends: H + 2 D numbers per edge and step, in one message.
State: ``hparams`` [N, H] for x, ``params`` [N, D] for y, ``adjoint`` [N, D] for z, ``average`` [N, H] for r.
Source: Kong, Zhu, Lu, Huang and Yuan, 2024 (arXiv 2402.03167).
Departures: none known.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.single_loop import SingleLoop
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import BilevelProblem, Problem


@dataclass(frozen=True, kw_only=True)
class DSOBA(SingleLoop):
    """D-SOBA; arguments as in :class:`SingleLoop`."""

    def init(self, problem: Problem, network: Network) -> State:
        hparams, params = problem.init_hparams(), problem.init_params()
        return {
            "hparams": hparams,
            "params": params,
            "adjoint": zeros_as(params),
            "average": torch.zeros_like(hparams),
        }

    def advance(self, state: State, step: int, problem: BilevelProblem, network: Network) -> State:
        x, y, z = state["hparams"], state["params"], state["adjoint"]
        on_x, on_y, on_z = self.directions(problem, state, step)
        average = state["average"].lerp(on_x, self.averaging if step else 1.0)
        moved = (
            x.sub(average, alpha=self.outer_lr),
            y.sub(on_y, alpha=self.inner_lr),
            z.sub(on_z, alpha=self.adjoint_lr),
        )
        x, y, z = network.mix(moved, step)
        return {"hparams": self.clamp(x), "params": y, "adjoint": z, "average": average}

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        return {}
