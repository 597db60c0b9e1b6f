"""FedRep: nodes train their own last layers first, then the first ones, and average only these.

Update equations, one step being one round (see local_training.py), with u_i the first layers of node i (the body) and
h_i its last private_layers layers (the head):
    h_i <- head_epochs local epochs of  h_i <- h_i - lr m_i,  m_i <- momentum m_i + grad_h f_i(u_i, h_i; batch);
    u_i <- body_epochs local epochs of  u_i <- u_i - lr m_i,  m_i <- momentum m_i + grad_u f_i(u_i, h_i; batch);
    u_i <- the average of all u_j, as in FedAvg.
Head and body have a momentum of their own. Every epoch of a round has its own order of minibatches; with
local_steps = K each of them is K minibatches.
State: ``params`` [N, D]; with momentum also ``momentum`` [N, D].
Needs: graph=hub or doubly stochastic W; problem=classification with a model of more than private_layers layers.
Sends: with S the parameters of the body, S numbers up and S numbers down for every node but the hub, or S per edge.
Heads never leave their node.
Source: Collins, Hassani, Mokhtari and Shakkottai, "Exploiting Shared Representations for Personalized Federated
Learning", arXiv 2102.07078, algorithm 1.
Departures: all nodes start from the same head, and take part in every round; momentum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.fedper import FedPer
from simulator.algorithms.federated.local_training import Gradient, average, train_locally_
from simulator.arrays import IntArray
from simulator.checks import require_at_least
from simulator.network.network import Network
from simulator.problems.base import Problem


@dataclass(frozen=True, kw_only=True)
class FedRep(FedPer):
    """Federated representation learning.

    Args:
        lr, lr_schedule, local_steps, momentum: of the local training.
        private_layers: last layers that stay at their node, at least 1.
        head_epochs: local epochs per round of these (tau_h in the paper); 0 leaves them as they are.
        body_epochs: local epochs per round of the other layers, at least 1.
    """

    head_epochs: int
    body_epochs: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("algorithm.head_epochs", self.head_epochs, 0)
        require_at_least("algorithm.body_epochs", self.body_epochs, 1)

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        params, body = state["params"], self.columns(problem)
        head = slice(body.stop, None)
        self.train_in_turns_(params[:, body], params[:, head], lambda: params, state.get("momentum"), step, problem)
        (params[:, body],) = average((params[:, body].contiguous(),), step, problem, network)
        return state

    def train_in_turns_(
        self,
        body: Tensor,
        head: Tensor,
        used: Callable[[], Tensor],
        momentum: Tensor | None,
        step: int,
        problem: Problem,
    ) -> None:
        """Runs the local steps of round ``step``, of the head and then of the body, in place.

        Args:
            body, head: [N, S] and [N, D - S].
            used: gives the parameters [N, D] at which gradients are taken, at each local step.
            momentum: [N, D]; None without momentum.
        """
        hparams, split = problem.init_hparams(), body.shape[1]

        def gradient_of(columns: slice) -> Gradient:
            def gradient(_: Tensor, steps: IntArray) -> Tensor:
                return problem.grad_at(used(), hparams, steps)[:, columns]

            return gradient

        epochs = self.head_epochs + self.body_epochs
        first = step * epochs
        in_turn = (
            (head, slice(split, None), range(first, first + self.head_epochs)),
            (body, slice(split), range(first + self.head_epochs, first + epochs)),
        )
        for rows, columns, of_round in in_turn:
            train_locally_(
                rows,
                gradient_of(columns),
                chain.from_iterable(self.batches(problem, epoch) for epoch in of_round),
                lr=self.rate(step),
                momentum=self.momentum,
                velocity=None if momentum is None else momentum[:, columns],
            )
