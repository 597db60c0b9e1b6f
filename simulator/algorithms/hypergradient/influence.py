"""Study of influential samples: their effect on the validation loss, predicted by hypergradient push and by retraining.

Update equations: SGP (see sgp.py). After the last step, at the debiased z_i, with a mask h_ij = 1 per training sample,
    v_ij = hypergradient push (see hypergradients/push.py), the derivative of the mean outer objective F by h_ij
    predicted change of F when a share r of sample j of node i is removed (h_ij: 1 -> 1 - r):  -r v_ij
    actual change: F after training again with h_ij = 1 - r, from the same start, graphs and minibatches, minus F before
for ``num_removed`` samples. The trainings run at once, as copies of the nodes. One further copy has all samples and
starts from perturbed parameters: how far its F is from F before is the noise floor of the actual changes.
The prediction is a derivative. A whole sample is a small change only among many; r below 1 makes it one among few.
Gradient descent over tau = sum of the learning rates does not reach the minimum along curvatures below 1 / tau, and
neither does the series with step_size * depth = tau; so that is the default depth.
The series needs step_size < 2 / lambda_max, with lambda_max the largest eigenvalue of the mean inner Hessian at the
end of training (see hypergradients/curvature.py). In training, too, rates above 2 / lambda_max make the actual changes
chaotic, which the noise floor shows.
Needs: column-stochastic P; problem=sample_masks (with other problems the hyperparameters are set to 0, one by one).
Sends: D + 1 numbers per edge and step, per edge and push, and per edge, step and training again.
Source: Terashita and Hara, arXiv 2210.02129, the study of influential samples.
Departures: removed_share, removed_choice, the default depth, the bound on step_size and the noise floor are ours.

Shapes: N local nodes, M all nodes, D parameters, H hyperparameters, K trainings at once.
"""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor

from simulator import randomness
from simulator.algorithms.base import Report, State, consensus_distance
from simulator.algorithms.gossip.sgp import SGP, push_gradient_step
from simulator.arrays import FloatArray
from simulator.checks import require_one_of, require_positive
from simulator.figures.studies import predicted_against_actual
from simulator.hypergradients.curvature import largest_curvature
from simulator.hypergradients.push import push_hypergradient
from simulator.hypergradients.replicas import replicated
from simulator.network.network import Network
from simulator.problems.base import BilevelProblem, Problem, Reading

log = logging.getLogger(__name__)

Place = tuple[int, int]
"""Node, and sample of the node."""


@dataclass(frozen=True, kw_only=True)
class Influence(SGP):
    """SGP, and the study at its end.

    Args:
        lr, lr_schedule, order: of SGP.
        depth: terms of the series (M in the paper); None for the sum of the learning rates over ``step_size``.
        num_pushes: rounds per term (S in the paper).
        step_size: alpha of the series, below 2 / largest eigenvalue of the mean inner Hessian.
        minibatch: second-order products on minibatches instead of the full training sets.
        independent_batches: separate minibatches for the two products of a term.
        reset_weights: push-sum weights restart at 1 for every term.
        num_removed: samples that are removed, each in a training of its own.
        removed_share: share of a sample that is removed, in (0, 1].
        removed_choice: ``largest`` for the samples with the largest predicted influence, ``spread`` for samples whose
            predicted influences are spread evenly from the smallest to the largest.
        perturbation: standard deviation of what is added to every parameter at the start of the perturbed copy; 0 for
            no such copy.
        trainings_at_once: how many trainings run together; the memory for activations grows with it.
    """

    depth: int | None
    num_pushes: int
    step_size: float
    minibatch: bool
    independent_batches: bool
    reset_weights: bool
    num_removed: int
    removed_share: float
    removed_choice: Literal["largest", "spread"]
    perturbation: float
    trainings_at_once: int

    needs_bilevel: ClassVar[bool] = True
    takes_late_messages: ClassVar[bool] = False
    survives_churn: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_pushes", "step_size", "num_removed", "trainings_at_once"):
            require_positive(f"algorithm.{name}", getattr(self, name))
        if self.depth is not None:
            require_positive("algorithm.depth", self.depth)
        if not 0 < self.removed_share <= 1:
            raise ValueError(f"algorithm.removed_share={self.removed_share}: expected a share in (0, 1]")
        require_one_of("algorithm.removed_choice", self.removed_choice, ("largest", "spread"))
        if not self.perturbation >= 0:
            raise ValueError(f"algorithm.perturbation={self.perturbation}: expected a positive number, or 0 for none")

    def report(self, state: State, step: int, problem: Problem, network: Network) -> Report:
        bilevel, num_steps = cast(BilevelProblem, problem), step + 1
        params, hparams = self.estimate(state), self.hparams(state, problem)
        self._warn_without_consensus(params, network)
        curvature = largest_curvature(bilevel, network, params, hparams)
        self.check_step_size(curvature)
        depth = self.depth_for(num_steps)
        if network.placement.rank == 0:
            log.info("influence: the largest curvature is %.4g; a series of %d terms begins", curvature, depth)
        with network.phase("hypergradient"):
            hypergradient = push_hypergradient(
                bilevel,
                network,
                params,
                hparams,
                depth=depth,
                num_pushes=self.num_pushes,
                step_size=self.step_size,
                minibatch=self.minibatch,
                independent_batches=self.independent_batches,
                reset_weights=self.reset_weights,
                first_batch=num_steps,
                first_round=num_steps,
            )
        influence = network.gather(hypergradient).cpu().double().numpy()
        masks = network.gather(hparams).cpu().double().numpy()
        choose = most_influential if self.removed_choice == "largest" else spread_influence
        removed = choose(influence, self.num_removed)
        predicted = np.array([-self.removed_share * masks[place] * influence[place] for place in removed])
        before = float(network.mean(_outer_losses(problem, params, hparams)))
        changes = self._changes(removed, before, num_steps, problem, network)
        actual, noise_floor = changes[: len(removed)], float(np.abs(changes[len(removed) :]).sum())
        with problem.uncounted():
            gradient_norm = float(network.mean(problem.grad(params, hparams, None)).norm())
        numbers = {
            **scores(actual, predicted),
            "influence/consensus_distance": consensus_distance(params, network),
            "influence/gradient_norm": gradient_norm,
            "influence/largest_curvature": curvature,
            "influence/depth": depth,
            "influence/removed_share": self.removed_share,
            "influence/outer_loss": before,
            "influence/top_ids": [list(place) for place in removed],
            "influence/predicted": predicted.tolist(),
            "influence/actual": actual.tolist(),
        }
        if self.perturbation:
            numbers["influence/noise_floor"] = noise_floor
        draw = partial(
            predicted_against_actual,
            predicted,
            actual,
            removed_share=self.removed_share,
            noise_floor=noise_floor if self.perturbation else None,
            gradient_norm=gradient_norm,
            r2=numbers.get("influence/r2"),
        )
        return Report(
            numbers=numbers,
            arrays={"influence": influence, "top_ids": np.array(removed), "predicted": predicted, "actual": actual},
            figures={"predicted_against_actual": draw},
        )

    def depth_for(self, num_steps: int) -> int:
        """Terms of the series after ``num_steps`` steps of training."""
        if self.depth is not None:
            return self.depth
        horizon = self.lr * sum(self.lr_schedule.factor(step) for step in range(num_steps))
        return max(1, round(horizon / self.step_size))

    def check_step_size(self, curvature: float) -> None:
        """Raises ValueError when the series diverges where the mean inner Hessian has that largest eigenvalue."""
        if self.step_size * curvature >= 2:
            raise ValueError(
                f"algorithm.step_size={self.step_size:g}: the series diverges, for the largest curvature at the end of "
                f"training is {curvature:.4g}; expected a step size below {2 / curvature:.3g}"
            )

    def _changes(
        self, removed: Sequence[Place], before: float, num_steps: int, problem: Problem, network: Network
    ) -> FloatArray:
        """Changes of the outer objective without the samples and, unless it is off, in the perturbed copy, [K]."""
        trainings: list[Place | None] = [*removed, *([None] if self.perturbation else [])]
        after: list[float] = []
        for start in range(0, len(trainings), self.trainings_at_once):
            group = trainings[start : start + self.trainings_at_once]
            after += self.retrained_losses(group, num_steps, problem, network).tolist()
            if network.placement.rank == 0:
                found = ", ".join(f"{loss - before:+.2e}" for loss in after[start:])
                log.info("influence: %d of %d trainings again done; changes %s", len(after), len(trainings), found)
        return np.array(after) - before

    def retrained_losses(
        self, removed: Sequence[Place | None], num_steps: int, problem: Problem, network: Network
    ) -> Tensor:
        """Mean outer objective over all nodes after training again, [K]; all at once.

        Args:
            removed: the sample of which ``removed_share`` is removed; None for the perturbed copy, which keeps all.
        """
        copies = [0] * len(removed)
        with (
            replicated(problem, network, streams=copies, first_rounds=copies, operations=["first_order"]) as (
                replicas,
                connected,
            ),
            connected.phase("retraining"),
        ):
            params, hparams = replicas.init_params(), replicas.init_hparams()
            for k, place in enumerate(removed):
                if place is None:
                    params[k :: len(removed)] += self.perturbation * _directions(params.shape[1]).to(params)
                elif place[0] in network.nodes:
                    row = (place[0] - network.nodes.start) * len(removed) + k
                    hparams[row, place[1]] *= 1 - self.removed_share
            state = {"params": params, "push_sum_weight": params.new_ones(len(params))}
            for step in range(num_steps):
                state = push_gradient_step(
                    state,
                    hparams,
                    replicas,
                    connected,
                    order=self.order,
                    lr=self.lr * self.lr_schedule.factor(step),
                    batch_step=step,
                    round_index=step,
                )
            losses = _outer_losses(replicas, self.estimate(state), hparams)
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
    """F_i on all samples and in float64, because what is wanted are small differences, [N]."""
    with problem.evaluating(Reading()):
        return problem.evaluate(params.double(), hparams.double())["outer/loss"]


def _directions(num_params: int) -> Tensor:
    """The same standard normal numbers in every run, [D]."""
    return torch.from_numpy(randomness.generator(0, "perturbation").standard_normal(num_params))


def most_influential(influence: FloatArray, count: int) -> list[Place]:
    """Places (node, sample) of the ``count`` entries of ``influence`` [M, H] of largest modulus, descending."""
    flat = np.abs(influence).ravel()
    # Masks of samples that a node does not have have no influence.
    order = [int(place) for place in np.argsort(-flat, kind="stable")[:count] if flat[place] > 0]
    return [divmod(place, influence.shape[1]) for place in order]


def spread_influence(influence: FloatArray, count: int) -> list[Place]:
    """Places (node, sample) whose entries of ``influence`` [M, H] are spread evenly over its range, ascending.

    Of ``count`` values at equal distances from the smallest to the largest, those of largest modulus first, each takes
    the closest entry that is still there.
    """
    flat = influence.ravel()
    # Masks of samples that a node does not have have no influence.
    left = np.flatnonzero(flat)
    chosen: list[int] = []
    for value in sorted(np.linspace(flat.min(), flat.max(), min(count, left.size)), key=abs, reverse=True):
        closest = int(np.abs(flat[left] - value).argmin())
        chosen.append(int(left[closest]))
        left = np.delete(left, closest)
    return [divmod(place, influence.shape[1]) for place in sorted(chosen, key=lambda place: (flat[place], place))]


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
