"""HGP: hypergradient push, the implicit hypergradient with vectors as the only messages.

Update equations at fixed params z_i, with P_t column-stochastic and push-sum weights w reset to 1 for every m:
    u_i = grad_params F_i / n,   v_i = grad_hparams (F_i + r_i) / n
    for m = 1..depth:
        q <- u, w <- 1;   num_pushes times: q <- P_t q, w <- P_t w;   s_i = q_i / w_i
        v_i <- v_i - step_size (d2 f_i / dhparams dparams) s_i
        u_i <- s_i - step_size (d2 f_i / dparams2) s_i
    v_i is the estimate of the derivative of the mean outer objective with respect to hparams_i.
The average-preserving form never debiases what is mixed again: q <- u, w <- 1 once; for every m, num_pushes times
q <- P_t q, w <- P_t w; s_i = q_i / w_i; v as above; q_i <- q_i - step_size (d2 f_i / dparams2) s_i. It keeps
sum_i q_i, so the true average is kept from one m to the next.
With messages that are late (faults=message_delay), P_t (...) takes in the shares that arrive in round t. Where weights
restart, mailboxes are emptied with them: shares that come after their term are lost, and s_i is an average of those
that came in time. The average-preserving form lets late shares arrive in later terms, where the sum over nodes and
messages in flight is kept.
Needs: column-stochastic P.
Sends: D + 1 numbers per edge and push.
Source: Terashita and Hara, arXiv 2210.02129, the HGP algorithm; the average-preserving form is ours.
Departures: push-sum weights here are never those of training, so two calls give the same result.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from simulator.network.network import Network
from simulator.problems.base import BilevelProblem


def push_hypergradient(
    problem: BilevelProblem,
    network: Network,
    params: Tensor,
    hparams: Tensor,
    *,
    depth: int,
    num_pushes: int,
    step_size: float,
    average_preserving: bool = False,
    minibatch: bool = False,
    independent_batches: bool = True,
    reset_weights: bool = True,
    first_batch: int = 0,
    first_round: int = 0,
    observe: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Estimates the hypergradient at every node.

    Args:
        params, hparams: the point of evaluation, [N, D] and [N, H].
        depth: terms of the series, M in the paper.
        num_pushes: rounds per term, S in the paper.
        step_size: alpha in the paper; the series converges for step_size < 2 / largest curvature.
        average_preserving: use the average-preserving form.
        minibatch: second-order products on minibatches ``first_batch``, ``first_batch + 1``, ... instead of
            the full batch.
        independent_batches: the Hessian product of a term uses another minibatch than the mixed product.
        reset_weights: push-sum weights restart at 1 for every term (the paper's rule); not used with
            ``average_preserving``.
        first_round: index of the first push in the graph schedule.
        observe: called with (m, v) after term m = 1..depth.

    Returns:
        v, [N, H].

    Raises:
        ValueError: when the terms of the series grow, so that the result is meaningless; names ``algorithm.step_size``.
    """
    num_nodes = network.num_nodes // network.placement.num_replicas
    outer_params, outer_hparams = problem.outer_grads(params, hparams)
    pushed = outer_params / num_nodes
    estimate = outer_hparams / num_nodes
    weight = params.new_ones(len(params))
    late = network.nothing_in_flight((pushed, weight))
    round_index, batch = first_round, first_batch
    for term in range(1, depth + 1):
        if reset_weights and not average_preserving:
            weight = params.new_ones(len(params))
            late = network.nothing_in_flight((pushed, weight))
        for _ in range(num_pushes):
            (pushed, weight), late = network.push((pushed, weight), round_index, late)
            round_index += 1
        debiased = pushed / weight[:, None]
        if not minibatch:
            along_params, along_hparams = problem.second_order(params, hparams, debiased, None)
        elif independent_batches:
            along_hparams = problem.cross_jvp(params, hparams, debiased, batch)
            along_params = problem.hvp(params, hparams, debiased, batch + 1)
            batch += 2
        else:
            along_params, along_hparams = problem.second_order(params, hparams, debiased, batch)
            batch += 1
        if term == 1:
            first = debiased.double().square().sum(dim=1)
        if term == depth > 1:
            last = debiased.double()
            bent = (last * along_params.double()).sum(dim=1)
            parts = torch.stack([first, last.square().sum(dim=1), bent], dim=1)
            _require_bounded_terms(*network.sum(parts).tolist(), step_size=step_size, depth=depth)
        estimate = estimate - step_size * along_hparams
        if average_preserving:
            pushed = pushed - step_size * along_params
        else:
            pushed = debiased.sub_(along_params, alpha=step_size)
        if observe is not None:
            observe(term, estimate)
    return estimate


_LARGEST_GROWTH = 1e6
"""The largest allowed ratio of the norms of the last and the first term. Negative curvature over few terms stays far
below it."""


def _require_bounded_terms(
    first_square: float, last_square: float, bent: float, *, step_size: float, depth: int
) -> None:
    """Raises ValueError when the terms s of the series have grown.

    Args:
        first_square, last_square: ||s||^2 of the first and the last term.
        bent: s^T H s of the last term.
    """
    if not math.isfinite(first_square):
        return  # The parameters are what diverged; the check of the state after the step names the node.
    growth = math.sqrt(last_square / first_square) if first_square else 1.0
    if growth <= 1:
        return
    # Terms that have grown along a curvature c > 0 have |1 - step_size c| > 1.
    curvature = bent / last_square if math.isfinite(last_square) else math.nan
    if step_size * curvature >= 2 or not growth <= _LARGEST_GROWTH:
        how = f"{growth:.2g} times in {depth} terms; curvature {curvature:.4g} along the last one"
        if not math.isfinite(curvature):
            how = f"in {depth} terms beyond the largest number"
        raise ValueError(
            f"algorithm.step_size={step_size:g}: the terms of the hypergradient's series grow ({how}); it must be "
            "below 2 / largest curvature, and where the curvature is negative there must be fewer terms "
            "(algorithm.depth)"
        )
