"""Study of the covariance between nodes: D-SGD whose last steps are repeated with other minibatches.

Update equations: D-SGD (see dsgd.py). From the state after the last step T, training goes on for ``horizon`` steps,
``repetitions`` times: steps, rounds of the schedule and momenta continue, minibatches are each repetition's own. Some
coordinates of the parameters are recorded at the end, and
    c_ij = mean over coordinates of the covariance of x_i and x_j over repetitions
is compared, over its mean diagonal, with the covariance that the walk z <- W_t (sqrt(gamma) z + xi) has between nodes
after the same round (simulator/topology/covariance.py). The gamma that fits best says how long what a node learned
counts, and n_W(gamma) over how many nodes it is averaged in that time. With combine-and-adapt the newest noise is not
mixed yet: there the walk is z <- sqrt(gamma) W_t z + xi, with covariance gamma Sigma + I.
Needs: doubly stochastic W, and a problem that can be computed for several runs at once. Without a period Sigma is that
of the rounds of the last stretch; what came before counts as if it had been mixed as far as these rounds mix it.
Sends: D numbers per edge, step and repetition.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022 (arXiv 2206.03093), figure 4.
Departures: a number of coordinates instead of a share; the fit of gamma is ours.

Shapes: N local nodes, M all nodes, D parameters, R repetitions, P coordinates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from simulator.algorithms.base import Report, State
from simulator.algorithms.gossip.dsgd import DSGD
from simulator.arrays import FloatArray, IntArray
from simulator.checks import require_at_least, require_positive
from simulator.figures.topology_studies import covariances_between_nodes
from simulator.graphs.base import Graph
from simulator.hypergradients.replicas import replicated
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.randomness import generator
from simulator.topology.covariance import (
    fit_covariance,
    normalized,
    recent_walk_covariance,
    sample_covariance,
    walk_covariance,
)

# Decays at which covariances that depend on gamma at all differ.
_APART = (0.1, 0.9)
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class CovarianceStudy(DSGD):
    """D-SGD, and the study at its end.

    Args:
        others: of D-SGD.
        repetitions: R, at least 4.
        horizon: steps of every repetition, at least 1; long enough to forget the state that all start from.
        num_coordinates: P, at least 1; all where there are fewer.
        copies: repetitions that are computed at once, at least 1; memory grows with them.
    """

    repetitions: int
    horizon: int
    num_coordinates: int
    copies: int

    survives_churn: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("horizon", "num_coordinates", "copies"):
            require_positive(f"algorithm.{name}", getattr(self, name))
        require_at_least("algorithm.repetitions", self.repetitions, 4)
        if self.clique_averaging:
            raise ValueError(
                "algorithm.clique_averaging=true: the covariance is known for D-SGD without clique averaging only"
            )

    def check_problem(self, problem: Problem) -> None:
        if problem.mixes_architectures:
            raise ValueError(
                f"problem: algorithm={self.name} needs models of one architecture at all nodes, and those of "
                f"{type(problem).__name__} differ; use problem=classification"
            )

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        num_params = state["params"].shape[1]
        shuffled = generator(network.graph.seed, "covariance_coordinates").permutation(num_params)
        coordinates = np.sort(shuffled[: self.num_coordinates])
        records = self._repeat(state, step + 1, coordinates, problem, network)
        measured = sample_covariance(records)
        halves = [normalized(sample_covariance(records[part::2])) for part in (0, 1)]
        numbers: dict[str, Any] = {
            "covariance/repetitions": self.repetitions,
            "covariance/mean_variance": float(measured.diagonal().mean()),
            "covariance/distance_of_halves": float(np.linalg.norm(halves[0] - halves[1]) / np.linalg.norm(halves[0])),
        }
        arrays: dict[str, npt.NDArray[Any]] = {"records": records, "coordinates": coordinates, "covariance": measured}
        walk = self._walk(network.graph, step + self.horizon)

        def expected(gamma: float) -> FloatArray:
            covariance = walk(gamma)
            return covariance if self.order == "adapt_then_combine" else gamma * covariance + np.eye(len(covariance))

        if self._depends_on_gamma(expected):
            fit = fit_covariance(measured, expected)
            numbers["covariance/gamma"] = fit.gamma
            variance = float(walk(fit.gamma).diagonal().mean())
            numbers["covariance/effective_num_neighbors"] = 1.0 / ((1.0 - fit.gamma) * variance)
            numbers["covariance/distance"] = fit.distance
            gamma = fit.gamma
        else:
            numbers["covariance/gamma"] = None
            numbers["covariance/undefined"] = "the walk has the same covariances at every gamma, but for a factor"
            gamma = 0.0
        arrays["covariance_of_walk"] = normalized(expected(gamma))
        figure = partial(
            covariances_between_nodes, normalized(measured), arrays["covariance_of_walk"], numbers["covariance/gamma"]
        )
        return Report(numbers=numbers, arrays=arrays, figures={"covariances_between_nodes": figure})

    def _repeat(
        self, state: State, first: int, coordinates: IntArray, problem: Problem, network: Network
    ) -> npt.NDArray[np.float32]:
        """Trains on from ``state`` in all repetitions and returns what is recorded, [R, M, P]."""
        chosen = torch.from_numpy(coordinates).to(network.device)
        parts = []
        for start in range(0, self.repetitions, self.copies):
            streams = range(start, min(start + self.copies, self.repetitions))
            with (
                replicated(
                    problem,
                    network,
                    streams=streams,
                    first_rounds=[0] * len(streams),
                    operations=["first_order"],
                ) as (replicas, connected),
                connected.phase("study"),
            ):
                rows = {name: each.repeat_interleave(len(streams), dim=0) for name, each in state.items()}
                for step in range(first, first + self.horizon):
                    rows = self.step(rows, step, replicas, connected)
            recorded = rows["params"][:, chosen].reshape(len(network.nodes), len(streams), -1)
            parts.append(network.gather(recorded).transpose(0, 1).float().cpu().numpy())
        return np.concatenate(parts)

    def _walk(self, graph: Graph, last: int) -> Callable[[float], FloatArray]:
        """Sigma after round ``last`` as a function of gamma."""
        if graph.period is not None:
            return walk_covariance(graph, last)
        return recent_walk_covariance(graph, range(last - self.horizon + 1, last + 1))

    @staticmethod
    def _depends_on_gamma(expected: Callable[[float], FloatArray]) -> bool:
        """Not without communication, nor with exact averaging in every round."""
        first, second = (normalized(expected(gamma)) for gamma in _APART)
        return float(np.abs(first - second).max()) > _ROUNDING
