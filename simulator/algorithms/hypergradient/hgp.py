"""HGP: every node tunes its hyperparameters with hypergradients computed by push-sum over the graph.

Update equations: an outer step is
    x <- x_0;  inner_steps times SGP on f_i(., h_i) (see sgp.py);  v_i = hypergradient push at z_i = x_i / w_i
    (see hypergradients/push.py);  h_i <- Adam(h_i, v_i)
Every outer step sees the same sequence of graphs and minibatches, so outer steps differ by the hyperparameters alone.
Adam's step is taken when the next outer step begins, so that what is reported after the last inner step belongs
together: the trained parameters, the hyperparameters they were trained with, and the hypergradient there.
Each node has hyperparameters h_i of its own. With share_rounds S all have the same: as the derivative with respect to
shared hyperparameters is sum_i v_i, S rounds of push-sum average M v_i before Adam's step, and h_i after it.
With messages that are late (faults=message_delay), every outer step, hypergradient and average begins with empty
mailboxes: what is still in flight at the end of one is lost to it.
State: ``params`` [N, D], ``push_sum_weight`` [N], ``hparams`` [N, H], ``hypergradient`` [N, H], ``adam_mean`` [N, H],
``adam_square`` [N, H]; with delays of up to L rounds also ``in_flight/params`` [N, L, D],
``in_flight/push_sum_weight`` [N, L].
Needs: column-stochastic P; a bilevel problem.
Sends: D + 1 numbers per edge and inner step; depth * num_pushes rounds of D + 1 numbers per hypergradient; 2 S rounds
of H + 1 numbers per outer step.
Source: Terashita and Hara, arXiv 2210.02129, personalization over random graphs (SGP setting).
Departures: the outer step's graphs and minibatches come from this simulator's keyed streams; share_rounds is ours.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor

from simulator.algorithms.adam import adam_
from simulator.algorithms.base import Algorithm, State
from simulator.algorithms.gossip.sgp import Order, check_order, init_push, push_gradient_step
from simulator.algorithms.push_sum import debias
from simulator.algorithms.weights import Weights
from simulator.checks import require_one_of, require_positive
from simulator.hypergradients.exact import exact_hypergradient
from simulator.hypergradients.push import push_hypergradient
from simulator.network.network import Network
from simulator.problems.base import BilevelProblem, Problem
from simulator.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class HypergradientPush(Algorithm):
    """Hypergradient push with an Adam outer loop over some way to train.

    Args:
        lr, lr_schedule: of the training; the schedule restarts with every outer step.
        inner_steps: training steps per outer step.
        outer_lr: Adam's rate for the hyperparameters.
        depth: terms of the series (M in the paper).
        num_pushes: rounds per term (S in the paper).
        step_size: alpha of the series.
        rule: ``debiased`` (the paper's) or ``average_preserving``.
        minibatch: second-order products on minibatches instead of the full training sets.
        independent_batches: separate minibatches for the two products of a term.
        reset_weights: push-sum weights restart at 1 for every term.
        reference: ``none``, ``dense`` or ``iterative``: the exact hypergradient that the error is measured against.
        reference_tolerance: relative residual of the iterative reference.
        reference_max_iterations: Hessian-vector products of the iterative reference at most.
    """

    lr: float
    lr_schedule: Schedule
    inner_steps: int
    outer_lr: float
    depth: int
    num_pushes: int
    step_size: float
    rule: Literal["debiased", "average_preserving"]
    minibatch: bool
    independent_batches: bool
    reset_weights: bool
    reference: Literal["none", "dense", "iterative"]
    reference_tolerance: float
    reference_max_iterations: int

    needs_bilevel: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("lr", "inner_steps", "outer_lr", "depth", "num_pushes", "step_size", "reference_tolerance"):
            require_positive(f"algorithm.{name}", getattr(self, name))
        require_positive("algorithm.reference_max_iterations", self.reference_max_iterations)
        require_one_of("algorithm.rule", self.rule, ("debiased", "average_preserving"))
        require_one_of("algorithm.reference", self.reference, ("none", "dense", "iterative"))

    def remark(self, num_steps: int) -> str:
        if num_steps >= self.inner_steps:
            return ""
        return (
            f"num_steps={num_steps} is less than algorithm.inner_steps={self.inner_steps}: the run ends within its "
            "first outer step, and no hyperparameter changes"
        )

    @abstractmethod
    def init_training(self, problem: Problem, network: Network) -> State:
        """The part of the state that every outer step starts anew."""

    @abstractmethod
    def train(self, state: State, inner_step: int, problem: Problem, network: Network) -> State:
        """That part after training step ``inner_step`` of an outer step."""

    def init(self, problem: Problem, network: Network) -> State:
        hparams = problem.init_hparams()
        nothing = torch.zeros_like(hparams)
        return {
            **self.init_training(problem, network),
            "hparams": hparams,
            "hypergradient": nothing,
            "adam_mean": nothing.clone(),
            "adam_square": nothing.clone(),
        }

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        outer_step, inner_step = divmod(step, self.inner_steps)
        if inner_step == 0 and outer_step > 0:
            state = {**self._outer_update(state, outer_step, network), **self.init_training(problem, network)}
        state = {**state, **self.train(state, inner_step, problem, network)}
        return self._push(state, problem, network) if self.evaluates_after(step) else state

    def _outer_update(self, state: State, count: int, network: Network) -> State:
        """Adam's step number ``count`` (from 1) on the hyperparameters."""
        hparams, mean, square = (state[key].clone() for key in ("hparams", "adam_mean", "adam_square"))
        adam_(hparams, state["hypergradient"], mean, square, lr=self.outer_lr, count=count)
        return {**state, "hparams": hparams, "adam_mean": mean, "adam_square": square}

    def _push(self, state: State, problem: Problem, network: Network) -> State:
        with network.phase("hypergradient"):
            hypergradient = push_hypergradient(
                cast(BilevelProblem, problem),
                network,
                self.estimate(state),
                state["hparams"],
                depth=self.depth,
                num_pushes=self.num_pushes,
                step_size=self.step_size,
                average_preserving=self.rule == "average_preserving",
                minibatch=self.minibatch,
                independent_batches=self.independent_batches,
                reset_weights=self.reset_weights,
                first_batch=self.inner_steps,
                first_round=self.inner_steps,
            )
        return {**state, "hypergradient": hypergradient}

    def hparams(self, state: State, problem: Problem) -> Tensor:
        return state["hparams"]

    def evaluates_after(self, step: int) -> bool:
        return (step + 1) % self.inner_steps == 0

    def finish(self, state: State, step: int, problem: Problem, network: Network) -> State:
        """A run that ends within an outer step still reports the hypergradient where it ended."""
        return state if self.evaluates_after(step) else self._push(state, problem, network)

    def diagnose(
        self, state: State, step: int, problem: Problem, network: Network, *, is_last: bool
    ) -> Mapping[str, float | Tensor]:
        if not is_last and not self.evaluates_after(step):
            return {}
        hypergradient = state["hypergradient"].double()
        metrics: dict[str, float | Tensor] = {
            "hypergradient/norm": float(network.sum(hypergradient.square().sum(dim=1)).sqrt()),
            "outer_step": step // self.inner_steps,
        }
        if self.reference == "none":
            return metrics
        exact = exact_hypergradient(
            cast(BilevelProblem, problem),
            network,
            self.estimate(state),
            state["hparams"],
            method=self.reference,
            tolerance=self.reference_tolerance,
            max_iterations=self.reference_max_iterations,
        )
        reference = exact.hypergradient
        parts = torch.stack(
            [
                (hypergradient - reference).square().sum(dim=1),
                reference.square().sum(dim=1),
                hypergradient.square().sum(dim=1),
                (hypergradient * reference).sum(dim=1),
            ],
            dim=1,
        )
        error, reference_square, square, inner_product = network.sum(parts).tolist()
        metrics["hypergradient/error"] = (error / max(reference_square, 1e-300)) ** 0.5
        metrics["hypergradient/cosine"] = inner_product / max((reference_square * square) ** 0.5, 1e-300)
        metrics["hypergradient/reference_norm"] = reference_square**0.5
        metrics["hypergradient/reference_residual"] = exact.residual
        metrics["hypergradient/reference_is_minimum"] = float(exact.positive_definite)
        return metrics


@dataclass(frozen=True, kw_only=True)
class HGP(HypergradientPush):
    """Hypergradient push over SGP.

    Args:
        order: of SGP.
        share_rounds: S; 0 for hyperparameters of each node's own. The others as in :class:`HypergradientPush`.
    """

    weights: ClassVar[Weights] = Weights.COLUMN_STOCHASTIC
    takes_late_messages: ClassVar[bool] = True

    order: Order
    share_rounds: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_order(self.order)
        if self.share_rounds < 0:
            raise ValueError(f"algorithm.share_rounds={self.share_rounds}: expected a number of rounds, or 0")
        if self.share_rounds and self.reference != "none":
            raise ValueError(
                f"algorithm.reference={self.reference}: it is for hyperparameters of each node's own, and with "
                f"algorithm.share_rounds={self.share_rounds} there are none; use algorithm.reference=none"
            )

    def _push(self, state: State, problem: Problem, network: Network) -> State:
        state = super()._push(state, problem, network)
        total = state["hypergradient"] * network.num_nodes
        return {**state, "hypergradient": self._average(total, network, 0)} if self.share_rounds else state

    def _outer_update(self, state: State, count: int, network: Network) -> State:
        state = super()._outer_update(state, count, network)
        hparams = self._average(state["hparams"], network, self.share_rounds)
        return {**state, "hparams": hparams}

    def _average(self, rows: Tensor, network: Network, first: int) -> Tensor:
        """Push-sum over ``share_rounds`` rounds, from the ``first`` after those of the hypergradient on."""
        weight = rows.new_ones(len(rows))
        late = network.nothing_in_flight((rows, weight))
        start = self.inner_steps + self.depth * self.num_pushes + first
        with network.phase("sharing"):
            for round_index in range(start, start + self.share_rounds):
                (rows, weight), late = network.push((rows, weight), round_index, late)
        return debias(rows, weight)

    def init_training(self, problem: Problem, network: Network) -> State:
        return init_push(problem, network)

    def train(self, state: State, inner_step: int, problem: Problem, network: Network) -> State:
        return push_gradient_step(
            state,
            state["hparams"],
            problem,
            network,
            order=self.order,
            lr=self.lr * self.lr_schedule.factor(inner_step),
            batch_step=inner_step,
            round_index=inner_step,
        )

    def estimate(self, state: State) -> Tensor:
        return debias(state["params"], state["push_sum_weight"])
