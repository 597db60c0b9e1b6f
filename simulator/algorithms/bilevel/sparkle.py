"""SPARKLE: the loop of D-SOBA with a correction for the differences between nodes on each level.

Update equations (see linear_system.py for u_i and z, corrected_loop.py for the loop): x follows
r_i <- (1 - m) r_i + m u_i (r_i = u_i at the start) with the correction of the outer level; y follows d_y g_i and z
follows (d2 g_i/dy2) z - d_y f_i, both with the correction of the inner level. All nodes end at the stationary point.
Minibatches: number t + 1 in step t, after number 0 at the start.
Needs: symmetric, doubly stochastic W; any schedule with gradient tracking, a static graph with the other corrections; a
bilevel problem, with second derivatives unless first_order.
Sends: 2 H + 4 D numbers per edge and step with gradient tracking on both levels; a level with another correction sends
half of its share. One message.
State: ``hparams`` [N, H] for x, ``params`` [N, D] for y, ``adjoint`` [N, D] for z, their last directions
``hparams_direction`` [N, H] (this is r), ``params_direction`` [N, D], ``adjoint_direction`` [N, D], and the memories of
the corrections ``hparams_memory`` [N, H], ``params_memory`` [N, D], ``adjoint_memory`` [N, D].
Source: Zhu, Kong, Lu, Huang and Yuan, NeurIPS 2024 (arXiv 2411.14166).
Departures: gradient tracking, EXTRA and exact diffusion in their usual forms, of which the paper's unified form is a
reparametrization.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.corrected_loop import CorrectedLoop, Move
from simulator.algorithms.bilevel.single_loop import SingleLoop
from simulator.algorithms.corrections import CORRECTIONS, require_static
from simulator.checks import require_one_of
from simulator.graphs.base import Graph
from simulator.padding import zeros_as
from simulator.problems.base import BilevelProblem

Name = Literal["gradient_tracking", "extra", "exact_diffusion"]


@dataclass(frozen=True, kw_only=True)
class SPARKLE(SingleLoop, CorrectedLoop):
    """SPARKLE.

    Args:
        outer_correction: of x: ``gradient_tracking``, ``extra`` or ``exact_diffusion``.
        inner_correction: of y and z.
    """

    outer_correction: Name
    inner_correction: Name

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("outer_correction", "inner_correction"):
            require_one_of(f"algorithm.{key}", getattr(self, key), CORRECTIONS)
        if self.hparam_range is not None and self.outer_correction != "gradient_tracking":
            raise ValueError(
                f"algorithm.hparam_range={list(self.hparam_range)}: needs algorithm.outer_correction=gradient_tracking"
            )

    def check_graph(self, graph: Graph) -> None:
        super().check_graph(graph)
        for key in ("outer_correction", "inner_correction"):
            if getattr(self, key) != "gradient_tracking":
                require_static(f"algorithm.{key}={getattr(self, key)}", graph, "gradient_tracking")

    def moves(self) -> tuple[Move, ...]:
        outer, inner = CORRECTIONS[self.outer_correction], CORRECTIONS[self.inner_correction]
        return (
            Move("hparams", outer, self.outer_lr),
            Move("params", inner, self.inner_lr),
            Move("adjoint", inner, self.adjoint_lr),
        )

    def start(self, problem: BilevelProblem) -> State:
        params = problem.init_params()
        return {"hparams": problem.init_hparams(), "params": params, "adjoint": zeros_as(params)}

    def next_directions(self, problem: BilevelProblem, new: State, old: State, index: int) -> tuple[Tensor, ...]:
        on_x, on_y, on_z = self.directions(problem, new, index)
        return old["hparams_direction"].lerp(on_x, self.averaging), on_y, on_z
