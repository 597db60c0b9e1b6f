"""What every problem must keep to.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from simulator.problems.base import BilevelProblem, Problem, Setting
from simulator.testing.globals import global_generators_unmoved

NUM_NODES = 4
STEP = 3  # whose minibatch derivatives are taken of
DIFFERENCE = 1e-5
TOLERANCE = 1e-6  # of differences of derivatives, relative


def check_problem(problem: Problem, setting: Setting | None = None, *, reports_outer_loss: bool = True) -> None:
    """Checks a problem, and the derivatives of both levels of a bilevel one, by finite differences in float64.

    Args:
        problem: as its constructor makes it, not set up yet. Copies of it are used.
        setting: what it is set up with; all nodes on one process, float64, on the CPU. Small synthetic data and a small
            perceptron unless given.
        reports_outer_loss: whether ``outer/loss`` of ``evaluate``, if there, is the outer objective at the parameters
            and hyperparameters that it is given.

    Raises:
        AssertionError: naming the property that does not hold.
    """
    case = Case.of(problem, setting)
    for check in PROBLEM_CHECKS:
        check(case)
    if isinstance(problem, BilevelProblem) and case.problem.num_hparams:
        for bilevel_check in BILEVEL_CHECKS:
            bilevel_check(case)
        if reports_outer_loss:
            check_outer_loss(case)


@dataclass(frozen=True)
class Case:
    """A problem that is set up, and a point to look at it from.

    Attributes:
        original: not set up.
        problem: set up with ``setting``.
        params, hparams: a random point, [N, D] and [N, H].
    """

    original: Problem
    setting: Setting
    problem: Problem
    params: Tensor
    hparams: Tensor

    @classmethod
    def of(cls, problem: Problem, setting: Setting | None) -> "Case":
        """Sets a copy of ``problem`` up and draws a point near its start."""
        setting = setting or small_setting(problem)
        ready = deepcopy(problem)
        ready.setup(setting)
        draw = torch.Generator().manual_seed(0)
        params, hparams = ready.init_params(), ready.init_hparams()
        params = params + 0.3 * _normal(params, draw)
        return cls(problem, setting, ready, params, hparams + 0.1 * _normal(hparams, draw))

    @property
    def bilevel(self) -> BilevelProblem:
        """The problem, known to be a bilevel one."""
        return cast(BilevelProblem, self.problem)

    def on_nodes(self, nodes: range) -> Problem:
        """The problem as a process has it that hosts ``nodes`` alone."""
        part = deepcopy(self.original)
        part.setup(replace(self.setting, nodes=nodes))
        return part


def small_setting(problem: Problem) -> Setting:
    """Four nodes in float64, with a little synthetic data and a small perceptron where the problem uses them."""
    from simulator.data.partitions.as_given import AsGiven
    from simulator.data.synthetic_mixture import SyntheticMixture
    from simulator.models.mlp import MLP

    setting = Setting(range(NUM_NODES), NUM_NODES, 0, torch.float64, torch.device("cpu"), compute="vmap")
    if not problem.uses_data:
        return setting
    data = SyntheticMixture(
        num_nodes=NUM_NODES,
        dim=5,
        num_components=3,
        alpha=0.4,
        noise=0.1,
        num_train=30,
        num_valid=20,
        num_test=10,
        box=1.0,
        legacy_labels=True,
        seed=1234,
    )
    model = partial(MLP, hidden=(4,)) if problem.uses_model else None
    return replace(setting, dataset=data, partition=AsGiven(), build_model=model)


def check_start(case: Case) -> None:
    """All nodes start alike, in the setting's dtype, and a start is no view of the problem's own tensors."""
    problem, setting = case.problem, case.setting
    params, hparams = problem.init_params(), problem.init_hparams()
    num_local = len(setting.nodes)
    assert params.shape == (num_local, problem.num_params), f"init_params() is {tuple(params.shape)}"
    assert hparams.shape == (num_local, problem.num_hparams), f"init_hparams() is {tuple(hparams.shape)}"
    assert params.dtype == hparams.dtype == setting.dtype, "the start is not of the setting's dtype"
    assert problem.mixes_architectures or (params == params[0]).all(), "the nodes start at different parameters"
    expected = params.clone()
    params.fill_(float("nan"))
    assert torch.equal(problem.init_params(), expected), "writing into init_params() changes the next start"


def check_purity(case: Case) -> None:
    """Gradients depend on point and step alone, not on the order of calls or on the global generators."""
    with global_generators_unmoved():
        first = [case.problem.grad(case.params, case.hparams, step) for step in (0, STEP, None)]
        again = [case.problem.grad(case.params, case.hparams, step) for step in (None, STEP, 0)]
    for one, other in zip(first, reversed(again), strict=True):
        assert torch.equal(one, other), "the gradient of a step depends on which steps were asked for before"


def check_accumulation(case: Case) -> None:
    """``add_grad_`` adds, also where ``out`` and ``params`` are one tensor, and leaves its arguments alone."""
    problem, params, hparams = case.problem, case.params.clone(), case.hparams.clone()
    gradient = problem.grad(params, hparams, STEP)
    assert torch.equal(params, case.params), "grad changes the parameters"
    assert torch.equal(hparams, case.hparams), "grad changes the hyperparameters"
    out = torch.ones_like(params)
    problem.add_grad_(out, params, hparams, STEP, -0.5)
    _assert_close(out, 1 - 0.5 * gradient, "add_grad_ does not add alpha times the gradient")
    problem.add_grad_(params, params, hparams, STEP, -0.5)
    _assert_close(params, case.params - 0.5 * gradient, "add_grad_ goes wrong where out and params are one tensor")


def check_nodes_alone(case: Case) -> None:
    """What a node computes depends neither on the other nodes' rows nor on which nodes its process hosts."""
    problem, params, hparams = case.problem, case.params, case.hparams
    gradient = problem.grad(params, hparams, STEP)
    changed = params.clone()
    changed[1:] += 1
    _assert_close(problem.grad(changed, hparams, STEP)[0], gradient[0], "node 0's gradient depends on another row")
    nodes = case.setting.nodes[1:3]
    part = case.on_nodes(range(nodes.start, nodes.stop))
    rows = slice(1, 3)
    _assert_close(part.init_params(), problem.init_params()[rows], "the start depends on which nodes a process hosts")
    there = part.grad(params[rows], hparams[rows], STEP)
    _assert_close(there, gradient[rows], "gradients depend on which nodes a process hosts")


def check_steps_by_node(case: Case) -> None:
    """``grad_at`` gives every node the gradient of its own step."""
    steps = np.full(len(case.params), STEP)
    gradient = case.problem.grad(case.params, case.hparams, STEP)
    found = case.problem.grad_at(case.params, case.hparams, steps)
    _assert_close(found, gradient, "grad_at differs from grad where all nodes are at one step")


def check_calls(case: Case) -> None:
    """A gradient counts once at every node, with the samples of its minibatch."""
    problem, calls = case.problem, case.problem.calls
    for step in (STEP, None):
        before = calls.counts
        problem.grad(case.params, case.hparams, step)
        gradients, products, samples = (now - then for now, then in zip(calls.counts, before, strict=True))
        sizes = problem.batch_sizes(step)
        expected = len(case.params) if sizes is None else np.count_nonzero(sizes)
        assert (gradients, products) == (expected, 0), f"grad at step {step} counts as {gradients} gradients"
        assert samples == (0 if sizes is None else sizes.sum()), f"grad at step {step} counts {samples} samples"
    try:
        drawn = [len(positions) for positions in problem.batch(STEP)]
    except ValueError:
        return  # it has no samples
    sizes = problem.batch_sizes(STEP)
    found = None if sizes is None else sizes.tolist()
    assert found == drawn, f"batch_sizes are {found}, and batch has {drawn} samples"


def check_second_order_calls(case: Case) -> None:
    """Outer gradients count as gradients, second-order products as Hessian products, each once."""
    problem, params, hparams = case.bilevel, case.params, case.hparams
    start = problem.calls.counts
    problem.inner_grads(params, hparams, STEP)
    problem.outer_grads(params, hparams, STEP)
    problem.outer_grad(params, hparams, step=STEP)
    problem.second_order(params, hparams, params, STEP)
    problem.hvp(params, hparams, params, STEP)
    problem.cross_jvp(params, hparams, vector=params, step=STEP)
    inner, outer = problem.batch_sizes(STEP), problem.batch_sizes(STEP, outer=True)
    expected = [3 * len(params), 3 * len(params), 0]
    if inner is not None and outer is not None:
        in_calls, out_calls = int(np.count_nonzero(inner)), int(np.count_nonzero(outer))
        expected = [in_calls + 2 * out_calls, 3 * in_calls, 4 * int(inner.sum()) + 2 * int(outer.sum())]
    found = [now - then for now, then in zip(problem.calls.counts, start, strict=True)]
    assert found == expected, f"gradients, Hessian products and samples count as {found}, not {expected}"


def check_evaluation(case: Case) -> None:
    """``evaluate`` gives one number per node and changes nothing."""
    params, hparams = case.params.clone(), case.hparams.clone()
    before = case.problem.grad(params, hparams, STEP)
    for name, values in case.problem.evaluate(params, hparams).items():
        assert values.shape == (len(params),), f"{name} has shape {tuple(values.shape)}, not one value per node"
    assert torch.equal(params, case.params), "evaluate changes the parameters"
    assert torch.equal(case.problem.grad(params, hparams, STEP), before), "evaluate changes later gradients"


def check_loss(case: Case) -> None:
    """Where ``evaluate`` reports ``train/loss``, a small step against the full gradient does not raise it."""
    problem, params = case.problem, case.problem.init_params()
    before = problem.evaluate(params, case.hparams).get("train/loss")
    if before is None:
        return
    direction = problem.grad(params, case.hparams, None)
    size = direction.norm(dim=1, keepdim=True).clamp_min(1e-30)
    after = problem.evaluate(params - 1e-4 * direction / size, case.hparams)["train/loss"]
    has_gradient = (size[:, 0] > 1e-6).cpu()
    assert (after.cpu() <= before.cpu())[has_gradient].all(), "a small step against the gradient raises train/loss"


def check_inner_gradients(case: Case) -> None:
    """The first of ``inner_grads`` is the gradient, and the second belongs to the same objective.

    Mixed derivatives are symmetric. Along directions v of params and u of hparams, the change of the gradient in
    hparams along v, times u, is the change of the gradient in params along u, times v.
    """
    problem, params, hparams = case.bilevel, case.params, case.hparams
    in_params, in_hparams = problem.inner_grads(params, hparams, STEP)
    _assert_close(in_params, problem.grad(params, hparams, STEP), "inner_grads and grad differ")
    assert in_hparams.shape == hparams.shape, f"the gradient in hparams has shape {tuple(in_hparams.shape)}"
    v, u = _directions(case)
    along_v = _difference(lambda t: problem.inner_grads(params + t * v, hparams, STEP)[1])
    along_u = _difference(lambda t: problem.grad(params, hparams + t * u, STEP))
    _assert_close((along_v * u).sum(1), (along_u * v).sum(1), "gradients in params and hparams are of two objectives")


def check_second_order(case: Case) -> None:
    """Hessian and mixed products are the derivatives of the gradient, and of the gradient in hparams."""
    problem, params, hparams = case.bilevel, case.params, case.hparams
    v, _ = _directions(case)
    hessian_product, mixed_product = problem.second_order(params, hparams, v, STEP)
    along_v = _difference(lambda t: problem.grad(params + t * v, hparams, STEP))
    _assert_close(hessian_product, along_v, "the Hessian product is not the derivative of the gradient")
    along_v = _difference(lambda t: problem.inner_grads(params + t * v, hparams, STEP)[1])
    _assert_close(mixed_product, along_v, "the mixed product is not the derivative of the gradient in hparams")
    _assert_close(problem.hvp(params, hparams, v, STEP), hessian_product, "hvp and second_order differ")
    _assert_close(problem.cross_jvp(params, hparams, v, STEP), mixed_product, "cross_jvp and second_order differ")


def check_outer_gradients(case: Case) -> None:
    """The outer gradients in params and in hparams are of one objective: their mixed derivatives agree."""
    problem, params, hparams = case.bilevel, case.params, case.hparams
    in_params, _ = problem.outer_grads(params, hparams)
    _assert_close(problem.outer_grad(params, hparams), in_params, "outer_grad and outer_grads differ")
    v, u = _directions(case)
    along_v = _difference(lambda t: problem.outer_grads(params + t * v, hparams)[1])
    along_u = _difference(lambda t: problem.outer_grads(params, hparams + t * u)[0])
    _assert_close((along_v * u).sum(1), (along_u * v).sum(1), "the outer gradients are of two objectives")


def check_outer_loss(case: Case) -> None:
    """The outer gradients are those of ``outer/loss``, where ``evaluate`` reports it."""
    problem, params, hparams = case.bilevel, case.params, case.hparams
    if "outer/loss" not in problem.evaluate(params, hparams):
        return
    in_params, in_hparams = problem.outer_grads(params, hparams)
    v, u = _directions(case)
    change = _difference(lambda t: problem.evaluate(params + t * v, hparams + t * u)["outer/loss"])
    slope = (in_params * v).sum(1) + (in_hparams * u).sum(1)
    _assert_close(slope.to(change), change, "the outer gradients are not those of outer/loss")


PROBLEM_CHECKS: tuple[Callable[[Case], None], ...] = (
    *(check_start, check_purity, check_accumulation, check_nodes_alone, check_steps_by_node, check_evaluation),
    *(check_loss, check_calls),
)
BILEVEL_CHECKS: tuple[Callable[[Case], None], ...] = (
    *(check_inner_gradients, check_second_order, check_outer_gradients, check_second_order_calls),
)


def _normal(like: Tensor, draw: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=draw, dtype=torch.float64).to(like)


def _directions(case: Case) -> tuple[Tensor, Tensor]:
    """A direction of params [N, D] and one of hparams [N, H]."""
    draw = torch.Generator().manual_seed(1)
    return _normal(case.params, draw), _normal(case.hparams, draw)


def _difference(value: Callable[[float], Tensor]) -> Tensor:
    """The central difference quotient at 0."""
    return (value(DIFFERENCE) - value(-DIFFERENCE)) / (2 * DIFFERENCE)


def _assert_close(found: Tensor, expected: Tensor, message: str) -> None:
    """Asserts that two tensors differ by at most ``TOLERANCE`` of the larger one's largest entry."""
    error = float((found - expected).abs().max()) if found.numel() else 0.0
    size = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    assert error <= TOLERANCE * size, f"{message}: apart by {error:.3g}"
