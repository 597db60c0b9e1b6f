"""Study of influential samples: their effect on the validation loss, predicted by hypergradient push and by retraining.

Update equations: SGP (see sgp.py). After the last step, at the debiased z_i, with a mask h_ij = 1 per training sample,
    v_ij = hypergradient push (see hypergradients/push.py), the derivative of the mean outer objective F by h_ij
    predicted change of F when sample j of node i is left out (h_ij: 1 -> 0):  -v_ij
    actual change: F after training again with h_ij = 0, from the same start, graphs and minibatches, minus F before
for the ``num_removed`` samples with the largest |v_ij| of all nodes. The trainings run at once, as copies of the nodes.
Needs: column-stochastic P; problem=sample_masks (with other problems the hyperparameters are set to 0, one by one).
Sends: D + 1 numbers per edge and step, per edge and push, and per edge, step and sample that is left out.
Source: Terashita and Hara, arXiv 2210.02129, the study of influential samples.
Departures: none.

Shapes: N local nodes, M all nodes, D parameters, H hyperparameters, K samples left out at once.
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import Report, State, consensus_distance
from simulator.algorithms.gossip.sgp import SGP, push_gradient_step
from simulator.arrays import FloatArray
from simulator.checks import require_positive
from simulator.figures.studies import predicted_against_actual
from simulator.hypergradients.push import push_hypergradient
from simulator.hypergradients.replicas import replicated
from simulator.network.network import Network
from simulator.problems.base import BilevelProblem, Problem

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Influence(SGP):
    """SGP, and the study at its end.

    Args:
        lr, lr_schedule, order: of SGP.
        depth: terms of the series (M in the paper).
        num_pushes: rounds per term (S in the paper).
        step_size: alpha of the series.
        minibatch: second-order products on minibatches instead of the full training sets.
        independent_batches: separate minibatches for the two products of a term.
        reset_weights: push-sum weights restart at 1 for every term.
        num_removed: samples that are left out, each in a training of its own.
        trainings_at_once: of these, how many run together; the memory for activations grows with it.
    """

    depth: int
    num_pushes: int
    step_size: float
    minibatch: bool
    independent_batches: bool
    reset_weights: bool
    num_removed: int
    trainings_at_once: int

    needs_bilevel: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("depth", "num_pushes", "step_size", "num_removed", "trainings_at_once"):
            require_positive(f"algorithm.{name}", getattr(self, name))

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        params, hparams = self.estimate(state), self.hparams(state, problem)
        self._warn_without_consensus(params, network)
        with network.phase("hypergradient"):
            hypergradient = push_hypergradient(
                cast(BilevelProblem, problem),
                network,
                params,
                hparams,
                depth=self.depth,
                num_pushes=self.num_pushes,
                step_size=self.step_size,
                minibatch=self.minibatch,
                independent_batches=self.independent_batches,
                reset_weights=self.reset_weights,
                first_batch=step + 1,
                first_round=step + 1,
            )
        influence = network.gather(hypergradient).cpu().double().numpy()
        masks = network.gather(hparams).cpu().double().numpy()
        removed = most_influential(influence, self.num_removed)
        predicted = np.array([-masks[place] * influence[place] for place in removed])
        before = float(network.mean(_outer_losses(problem, params, hparams)))
        after: list[float] = []
        for start in range(0, len(removed), self.trainings_at_once):
            group = removed[start : start + self.trainings_at_once]
            after += self.retrained_losses(group, step + 1, problem, network).tolist()
        actual = np.array(after) - before
        numbers = {
            **scores(actual, predicted),
            "influence/consensus_distance": consensus_distance(params, network),
            "influence/outer_loss": before,
            "influence/top_ids": [list(place) for place in removed],
            "influence/predicted": predicted.tolist(),
            "influence/actual": actual.tolist(),
        }
        return Report(
            numbers=numbers,
            arrays={"influence": influence, "top_ids": np.array(removed), "predicted": predicted, "actual": actual},
            figures={"predicted_against_actual": partial(predicted_against_actual, predicted, actual)},
        )

    def retrained_losses(
        self, removed: Sequence[tuple[int, int]], num_steps: int, problem: Problem, network: Network
    ) -> Tensor:
        """Mean outer objective over all nodes after training without each of some samples, [K]; all at once."""
        copies = [0] * len(removed)
        with (
            replicated(problem, network, streams=copies, first_rounds=copies, operations=["first_order"]) as (
                replicas,
                connected,
            ),
            connected.phase("retraining"),
        ):
            params, hparams = replicas.init_params(), replicas.init_hparams()
            for k, (node, place) in enumerate(removed):
                if node in network.nodes:
                    hparams[(node - network.nodes.start) * len(removed) + k, place] = 0
            weight = params.new_ones(len(params))
            for step in range(num_steps):
                params, weight = push_gradient_step(
                    params,
                    weight,
                    hparams,
                    replicas,
                    connected,
                    order=self.order,
                    lr=self.lr * self.lr_schedule.factor(step),
                    batch_step=step,
                    round_index=step,
                )
            losses = _outer_losses(replicas, params / weight[:, None], hparams)
        return network.mean(losses.reshape(-1, len(removed)))

    def _warn_without_consensus(self, params: Tensor, network: Network) -> None:
        """The estimate presumes that all nodes hold the same parameters."""
        mean = network.mean(params)
        apart = (~torch.isclose(params, mean.expand_as(params))).any(dim=1)
        if float(network.sum(apart.double())) and network.placement.rank == 0:
            log.warning(
                "influence: the nodes' parameters are not equal to 1e-5 (consensus distance and more in summary.json); "
                "more steps, or a smaller learning rate at the end, bring them together"
            )


def _outer_losses(problem: Problem, params: Tensor, hparams: Tensor) -> Tensor:
    """F_i in float64, because what is wanted are small differences, [N]."""
    return problem.evaluate(params.double(), hparams.double())["outer/loss"]


def most_influential(influence: FloatArray, count: int) -> list[tuple[int, int]]:
    """Places (node, sample) of the ``count`` entries of ``influence`` [M, H] of largest modulus, descending."""
    flat = np.abs(influence).ravel()
    # Masks of samples that a node does not have have no influence.
    order = [int(place) for place in np.argsort(-flat, kind="stable")[:count] if flat[place] > 0]
    return [divmod(place, influence.shape[1]) for place in order]


def scores(actual: FloatArray, predicted: FloatArray) -> dict[str, Any]:
    """How well predictions agree with what happened; sets are those of samples whose removal lowers the loss."""
    import scipy.stats
    import sklearn.metrics

    if len(actual) < 2:
        return {}
    lower, expected_lower = actual < 0, predicted < 0
    with warnings.catch_warnings():
        # Correlations with something constant are undefined, which NaN says.
        warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
        correlations = {
            "influence/kendall": float(scipy.stats.kendalltau(actual, predicted).statistic),
            "influence/pearson": float(scipy.stats.pearsonr(actual, predicted).statistic),
        }
    return {
        "influence/r2": float(sklearn.metrics.r2_score(actual, predicted)),
        **correlations,
        "influence/jaccard": float(sklearn.metrics.jaccard_score(lower, expected_lower, zero_division=0)),
        "influence/f1": float(sklearn.metrics.f1_score(lower, expected_lower, zero_division=0)),
    }
