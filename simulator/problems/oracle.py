"""What algorithms ask of a problem, counted where it is asked.

A call is one pass over one node's minibatch, or over all its samples:
    a gradient: of one objective, with respect to parameters, hyperparameters or both;
    a Hessian product: the product of the Hessian, of the mixed derivative or of both with one vector.
A node that has samples, but none in the minibatch, is not called. Methods that ask others count once, as what they are.

Shapes: N local nodes.
"""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, Literal, TypeVar, cast

import numpy as np

from simulator.pausing import Pausable

Kind = Literal["gradients", "hessian_products"]
_Method = TypeVar("_Method", bound=Callable[..., Any])

GRADIENTS = ("grad", "add_grad_", "grad_at", "add_grad_at_", "inner_grads")
OUTER_GRADIENTS = ("outer_grads", "outer_grad")
HESSIAN_PRODUCTS = ("second_order", "hvp", "cross_jvp")


class OracleCalls(Pausable):
    """Cumulative calls of the nodes of one process, and of their copies.

    Attributes:
        gradients, hessian_products: calls, over all local nodes.
        samples: samples of all these calls.
    """

    def __init__(self) -> None:
        self.gradients = 0
        self.hessian_products = 0
        self.samples = 0

    @property
    def counts(self) -> list[int]:
        """Gradients, Hessian products and samples."""
        return [self.gradients, self.hessian_products, self.samples]

    def continue_from(self, counts: list[int]) -> None:
        """Sets the counts to those of a checkpoint."""
        self.gradients, self.hessian_products, self.samples = counts


def counted(kind: Kind, *, outer: bool = False) -> Callable[[_Method], _Method]:
    """Decorates a method of a problem that computes one call for every local node.

    Args:
        kind: what the method computes.
        outer: whether with samples of the outer objective.

    The method has a first argument with a row per local node, and ``step`` or ``steps`` among the others.
    """

    def decorate(method: _Method) -> _Method:
        names = list(signature(method).parameters)[1:]
        rows_name, step_name = names[0], "steps" if "steps" in names else "step"
        place = names.index(step_name)

        @wraps(method)
        def ask(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls: OracleCalls = self.calls
            if calls.is_paused:
                return method(self, *args, **kwargs)
            calls.is_paused = True
            try:
                answer = method(self, *args, **kwargs)
            finally:
                calls.is_paused = False
            step = args[place] if len(args) > place else kwargs.get(step_name)
            sizes = self.batch_sizes(step, outer=outer)
            if sizes is not None:
                number = int(np.count_nonzero(sizes))
                calls.samples += int(sizes.sum())
            elif isinstance(step, np.ndarray):
                number = int(np.count_nonzero(step >= 0))
            else:
                number = len(args[0] if args else kwargs[rows_name])
            if kind == "gradients":
                calls.gradients += number
            else:
                calls.hessian_products += number
            return answer

        ask.is_counted = True  # type: ignore[attr-defined]
        return cast(_Method, ask)

    return decorate


def count_calls(problem: type) -> None:
    """Makes the methods that a class of problems defines count their calls."""
    for name in (*GRADIENTS, *OUTER_GRADIENTS, *HESSIAN_PRODUCTS):
        method = problem.__dict__.get(name)
        if method is not None and not hasattr(method, "is_counted"):
            kind: Kind = "hessian_products" if name in HESSIAN_PRODUCTS else "gradients"
            setattr(problem, name, counted(kind, outer=name in OUTER_GRADIENTS)(method))
