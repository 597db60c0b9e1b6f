"""Study of random quadratics: D-SGD simulated many times, compared with the exact second moments.

Update equations: D-SGD (see dsgd.py). After the last step it is repeated from the start, ``repetitions`` times at once
as copies of the nodes, over the rounds 0 .. horizon - 1 of the schedule and with samples of their own. Of every step
are recorded, as means over repetitions with standard errors,
    mean_i ||x_i||^2,    ||mean x||^2,    mean_i ||x_i - mean x||^2,
and compared with their expectations given the rounds (simulator/topology/trajectory.py).
State: ``params`` [N, D].
Needs: problem=random_quadratic and doubly stochastic W; no momentum, single local steps.
Sends: D numbers per edge, step and repetition.
Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022 (arXiv 2206.03093), the toy problem.
Departures: the paper computes expectations only. ||x_i||^2 has heavy tails, heavier with every step: over long horizons
most repetitions lie below the expectation, and few repetitions do not show their own standard error.

Shapes: N local nodes, M all nodes, D parameters, R repetitions, S steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import Report, State
from simulator.algorithms.gossip.dsgd import DSGD
from simulator.arrays import FloatArray
from simulator.figures.topology_studies import moments_by_step
from simulator.hypergradients.replicas import replicated
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.problems.random_quadratic import RandomQuadratic
from simulator.topology.trajectory import Trajectory, trajectory

QUANTITIES = ("squared_norm", "squared_mean", "squared_distance")
# What rounding may add to a quantity, over mean_i ||x_i||^2 at the start: exact averages have no distance at all.
_ROUNDING = 1e-10


@dataclass(frozen=True, kw_only=True)
class QuadraticStudy(DSGD):
    """D-SGD, and the study at its end.

    Args:
        others: of D-SGD.
        repetitions: R, at least 2.
        horizon: S, steps of every repetition, at least 1.
    """

    repetitions: int
    horizon: int

    survives_churn: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.repetitions < 2 or self.horizon < 1:
            raise ValueError(
                f"algorithm.repetitions={self.repetitions}, algorithm.horizon={self.horizon}: expected at least 2 and 1"
            )
        if self.momentum or self.local_steps > 1 or self.ema or self.clique_averaging:
            raise ValueError(
                "algorithm.momentum, local_steps, ema or clique_averaging: the second moments are known for D-SGD "
                "without momentum, further local steps, moving average and clique averaging only"
            )

    def check_problem(self, problem: Problem) -> None:
        if not isinstance(problem, RandomQuadratic):
            raise ValueError(
                f"problem: algorithm={self.name} needs problem=random_quadratic, not {type(problem).__name__}"
            )

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        assert isinstance(problem, RandomQuadratic)
        measured = self._simulate(problem, network)
        arrays = {name: np.stack([values.mean(axis=1), _standard_error(values)]) for name, values in measured.items()}
        numbers: dict[str, Any] = {"quadratic/repetitions": self.repetitions}
        for name, (means, errors) in arrays.items():
            numbers[f"quadratic/{name}"] = float(means[-1])
            numbers[f"quadratic/{name}_stderr"] = float(errors[-1])
        numbers["quadratic/log_squared_norm"] = float(np.log(arrays["squared_norm"][0, -1]))
        numbers["quadratic/rate_per_step"] = _rate_per_step(arrays["squared_norm"][0])
        expected: dict[str, FloatArray] = {}
        try:
            exact = self._exact(problem, network)
        except ValueError as error:
            numbers["quadratic/undefined"] = str(error)
        else:
            expected = {name: getattr(exact, name) for name in QUANTITIES}
            numbers |= self._comparison(arrays, expected)
            arrays |= {f"{name}_exact": values for name, values in expected.items()}
        curves = {name: arrays[name] for name in QUANTITIES}
        return Report(
            numbers=numbers, arrays=arrays, figures={"moments_by_step": partial(moments_by_step, curves, expected)}
        )

    def _simulate(self, problem: Problem, network: Network) -> dict[str, FloatArray]:
        """Every quantity before the first and after every step in all repetitions, [S + 1, R]."""
        records = []
        with (
            replicated(
                problem,
                network,
                streams=range(self.repetitions),
                first_rounds=[0] * self.repetitions,
                operations=["first_order"],
            ) as (replicas, connected),
            connected.phase("study"),
        ):
            state = self.init(replicas, connected)
            records.append(self._record(state["params"], network))
            for step in range(self.horizon):
                state = self.step(state, step, replicas, connected)
                records.append(self._record(state["params"], network))
        values = torch.stack(records).cpu().numpy()
        return {name: values[:, position] for position, name in enumerate(QUANTITIES)}

    def _record(self, params: Tensor, network: Network) -> Tensor:
        """The quantities of one step, [3, R]."""
        x = params.double().reshape(len(network.nodes), self.repetitions, -1)
        mean = network.mean(x)
        norms = network.mean(x.square().sum(dim=2))
        distances = network.mean((x - mean).square().sum(dim=2))
        return torch.stack([norms, mean.square().sum(dim=1), distances])

    def _exact(self, problem: RandomQuadratic, network: Network) -> Trajectory:
        return trajectory(
            network.graph,
            problem.init_params()[0].double().cpu().numpy(),
            problem.variances,
            [self.lr * self.lr_schedule.factor(step) for step in range(self.horizon)],
            batch_size=problem.batch_size,
            order=self.order,
        )

    def _comparison(self, arrays: Mapping[str, FloatArray], expected: Mapping[str, FloatArray]) -> dict[str, float]:
        numbers, largest = {}, 0.0
        rounding = _ROUNDING * expected["squared_norm"][0]
        for name, values in expected.items():
            means, errors = arrays[name]
            score = float((np.abs(means - values) / (errors + rounding)).max())
            numbers[f"quadratic/{name}_exact"] = float(values[-1])
            numbers[f"quadratic/max_z_score_{name}"] = score
            largest = max(largest, score)
        numbers["quadratic/max_z_score"] = largest
        numbers["quadratic/log_squared_norm_exact"] = float(np.log(expected["squared_norm"][-1]))
        numbers["quadratic/rate_per_step_exact"] = _rate_per_step(expected["squared_norm"])
        return numbers


def _standard_error(values: FloatArray) -> FloatArray:
    found: FloatArray = values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    return found


def _rate_per_step(norms: FloatArray) -> float:
    """What a step took from the squared norm, as if all had taken the same share."""
    return 1.0 - float((norms[-1] / norms[0]) ** (1.0 / (len(norms) - 1)))
