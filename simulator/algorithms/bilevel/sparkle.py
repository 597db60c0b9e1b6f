"""SPARKLE: the loop of D-SOBA with a correction for the differences between nodes on each level.

Update equations (see linear_system.py for u_i and z, ../corrections.py for the corrections): x follows
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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.bilevel.single_loop import SingleLoop
from simulator.algorithms.corrections import CORRECTIONS, Correction, Moving, require_static
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.padding import zeros_as
from simulator.problems.base import BilevelProblem, Problem

Name = Literal["gradient_tracking", "extra", "exact_diffusion"]
_VARIABLES = ("hparams", "params", "adjoint")


@dataclass(frozen=True, kw_only=True)
class SPARKLE(SingleLoop):
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
            if getattr(self, key) not in CORRECTIONS:
                raise ValueError(f"algorithm.{key}={getattr(self, key)!r}: expected {', '.join(CORRECTIONS)}")
        if self.hparam_range is not None and self.outer_correction != "gradient_tracking":
            raise ValueError(
                f"algorithm.hparam_range={list(self.hparam_range)}: needs algorithm.outer_correction=gradient_tracking"
            )

    def check_graph(self, graph: Graph) -> None:
        super().check_graph(graph)
        for key in ("outer_correction", "inner_correction"):
            if getattr(self, key) != "gradient_tracking":
                require_static(f"algorithm.{key}={getattr(self, key)}", graph, "gradient_tracking")

    def _moves(self) -> tuple[tuple[str, Correction, float], ...]:
        """Variable, correction and step size."""
        outer, inner = CORRECTIONS[self.outer_correction], CORRECTIONS[self.inner_correction]
        return (
            ("hparams", outer, self.outer_lr),
            ("params", inner, self.inner_lr),
            ("adjoint", inner, self.adjoint_lr),
        )

    def init(self, problem: Problem, network: Network) -> State:
        assert isinstance(problem, BilevelProblem)
        params = problem.init_params()
        state = {"hparams": problem.init_hparams(), "params": params, "adjoint": zeros_as(params)}
        for (key, correction, _), direction in zip(self._moves(), self.directions(problem, state, 0), strict=True):
            state[f"{key}_direction"] = direction
            state[f"{key}_memory"] = correction.init(state[key], direction)
        return state

    def advance(self, state: State, step: int, problem: BilevelProblem, network: Network) -> State:
        variables = {key: Moving(state[key], state[f"{key}_direction"], state[f"{key}_memory"]) for key in _VARIABLES}
        sent = {key: correction.send(variables[key], lr) for key, correction, lr in self._moves()}
        mixed = list(network.mix([rows for key in _VARIABLES for rows in sent[key]], step))
        new: State = {}
        for key, correction, lr in self._moves():
            arrived, mixed = mixed[: correction.num_rows], mixed[correction.num_rows :]
            new[key], new[f"{key}_memory"] = correction.move(variables[key], lr, sent[key], arrived)
        new["hparams"] = self.clamp(new["hparams"])
        on_x, on_y, on_z = self.directions(problem, new, step + 1)
        average = state["hparams_direction"].lerp(on_x, self.averaging)
        for (key, correction, _), direction in zip(self._moves(), (average, on_y, on_z), strict=True):
            old = state[f"{key}_direction"]
            new[f"{key}_direction"] = direction
            new[f"{key}_memory"] = correction.update_memory(new[f"{key}_memory"], old, direction)
        return new

    def tracked(self, state: State) -> Mapping[str, tuple[Tensor, Tensor]]:
        return {
            f"the trackers of {key} have the mean of its directions": (
                state[f"{key}_memory"],
                state[f"{key}_direction"],
            )
            for key, correction, _ in self._moves()
            if correction.num_rows == 2
        }
