"""Study of the hypergradient's error: hypergradient push against the exact hypergradient, term by term.

Update equations: SGP (see sgp.py). After the last step, at the debiased z_i and the starting hyperparameters,
    h_i = exact hypergradient of the full training sets (see hypergradients/exact.py)
    v_i^(m), m = 1..depth, by hypergradient push (hypergradients/push.py), for all push counts S, graph seeds and rules
    e_m = sqrt(sum_i ||v_i^(m) - h_i||^2)
Graph seed s takes rounds num_steps + s * depth * max(S), ... of the schedule and, with minibatches, its own stream;
all seeds are computed at once, as copies of the nodes.
Needs: column-stochastic P; a bilevel problem with few enough parameters for a dense solve.
Sends: D + 1 numbers per edge and step, and per edge, push and graph seed.
Source: Terashita and Hara, arXiv 2210.02129, the study of the estimation error.
Departures: with minibatches the reference stays that of the full training sets; the average-preserving rule is ours.

Shapes: N local nodes, M all nodes, D parameters, H hyperparameters, K graph seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import Report, State
from simulator.algorithms.gossip.sgp import SGP
from simulator.arrays import FloatArray
from simulator.checks import require_positive
from simulator.figures.studies import error_by_term
from simulator.hypergradients.exact import exact_hypergradient
from simulator.hypergradients.push import push_hypergradient
from simulator.hypergradients.replicas import replicated
from simulator.network.network import Network
from simulator.problems.base import BilevelProblem, Problem

RULES = ("debiased", "average_preserving")


@dataclass(frozen=True, kw_only=True)
class HypergradientError(SGP):
    """SGP, and the study at its end.

    Args:
        lr, lr_schedule, order: of SGP.
        depth: terms of the series (M in the paper).
        push_counts: rounds per term (S in the paper), each a curve.
        step_size: alpha of the series.
        rules: ``debiased`` (the paper's), ``average_preserving``, or both.
        graph_seeds: each an independent draw of the graphs, and of the minibatches.
        minibatch: second-order products on minibatches instead of the full training sets.
        independent_batches: separate minibatches for the two products of a term.
        reset_weights: push-sum weights restart at 1 for every term.
        summary_terms: m at which errors stand in ``summary.json``; those up to ``depth``, and ``depth`` itself.
    """

    depth: int
    push_counts: Sequence[int]
    step_size: float
    rules: Sequence[str]
    graph_seeds: Sequence[int]
    minibatch: bool
    independent_batches: bool
    reset_weights: bool
    summary_terms: Sequence[int]

    needs_bilevel: ClassVar[bool] = True
    survives_churn: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("algorithm.depth", self.depth)
        require_positive("algorithm.step_size", self.step_size)
        for name, smallest in (("push_counts", 1), ("graph_seeds", 0)):
            values = list(getattr(self, name))
            if not values or min(values) < smallest or len(set(values)) < len(values):
                raise ValueError(f"algorithm.{name}={values}: expected different integers of at least {smallest}")
        if not self.rules or not set(self.rules) <= set(RULES):
            raise ValueError(f"algorithm.rules={list(self.rules)}: expected some of {', '.join(RULES)}")

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        bilevel = cast(BilevelProblem, problem)
        params, hparams = self.estimate(state), self.hparams(state, problem)
        exact = exact_hypergradient(bilevel, network, params, hparams, method="dense")
        errors = {
            (rule, pushes): self._errors(
                params,
                hparams,
                bilevel,
                network,
                rule=rule,
                pushes=pushes,
                first=step + 1,
                reference=exact.hypergradient,
            )
            for rule in self.rules
            for pushes in self.push_counts
        }
        reference = network.gather(exact.hypergradient).cpu().numpy()
        norm = float(np.linalg.norm(reference))
        numbers: dict[str, Any] = {
            "hypergradient/reference": reference.tolist(),
            "hypergradient/reference_norm": norm,
            "hypergradient/reference_residual": exact.residual,
            "hypergradient/reference_is_minimum": float(exact.positive_definite),
        }
        for (rule, pushes), curves in errors.items():
            suffix = "" if rule == "debiased" else f",rule={rule}"
            for seed, curve in zip(self.graph_seeds, curves, strict=True):
                numbers[f"hypergradient/error@S={pushes},seed={seed}{suffix}"] = self._at_terms(curve)
            for name, share in (("p10", 0.1), ("median", 0.5), ("p90", 0.9)):
                values = np.quantile(curves, share, axis=0)
                numbers[f"hypergradient/error_{name}@S={pushes}{suffix}"] = self._at_terms(values)
        arrays = {f"error_{rule}_S{pushes}": curves for (rule, pushes), curves in errors.items()}
        arrays |= {"reference": reference, "graph_seeds": np.array(list(self.graph_seeds))}
        by_rule = {
            rule: {pushes: curves / (norm or 1.0) for (name, pushes), curves in errors.items() if name == rule}
            for rule in self.rules
        }
        return Report(numbers=numbers, arrays=arrays, figures={"error_by_term": partial(error_by_term, by_rule)})

    def _errors(
        self,
        params: Tensor,
        hparams: Tensor,
        problem: BilevelProblem,
        network: Network,
        *,
        rule: str,
        pushes: int,
        first: int,
        reference: Tensor,
    ) -> FloatArray:
        """e_m of every graph seed, [K, depth]; ``first`` is the first round and minibatch after training."""
        copies = len(self.graph_seeds)
        stride = self.depth * max(self.push_counts)
        squares = torch.zeros(self.depth, len(params) * copies, dtype=torch.float64, device=params.device)
        wanted = reference.repeat_interleave(copies, dim=0)

        def observe(term: int, estimate: Tensor) -> None:
            squares[term - 1] = (estimate.double() - wanted).square().sum(dim=1)

        with (
            replicated(
                problem,
                network,
                streams=self.graph_seeds,
                first_rounds=[first + seed * stride for seed in self.graph_seeds],
                operations=["first_order", "second_order"],
            ) as (replicas, connected),
            connected.phase("hypergradient"),
        ):
            push_hypergradient(
                replicas,
                connected,
                params.repeat_interleave(copies, dim=0),
                hparams.repeat_interleave(copies, dim=0),
                depth=self.depth,
                num_pushes=pushes,
                step_size=self.step_size,
                average_preserving=rule == "average_preserving",
                minibatch=self.minibatch,
                independent_batches=self.independent_batches,
                reset_weights=self.reset_weights,
                first_batch=first,
                first_round=0,
                observe=observe,
            )
        by_node = squares.T.reshape(len(params), copies, self.depth)
        result: FloatArray = network.sum(by_node).sqrt().cpu().numpy()
        return result

    def _at_terms(self, curve: FloatArray) -> Mapping[str, float]:
        terms = sorted({term for term in self.summary_terms if 1 <= term <= self.depth} | {self.depth})
        return {str(term): float(curve[term - 1]) for term in terms}
