"""What FedPer and LG-FedAvg share: local training of whole models, of which nodes average some layers and keep others.

Update equations, one step being one round (see local_training.py), with S the columns of the shared layers:
    x_i <- a local epoch of SGD with momentum from x_i;    x_i[S] <- the average of all x_j[S], as in FedAvg.
Everything else of x_i stays at node i. All nodes start from the same parameters.
State: ``params`` [N, D]; with momentum also ``momentum`` [N, D].
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from simulator.algorithms.base import State
from simulator.algorithms.federated.local_training import MomentumTraining, average, gradient_of
from simulator.network.network import Network
from simulator.problems.base import Problem
from simulator.problems.classification import Classification


@dataclass(frozen=True, kw_only=True)
class PartialAveraging(MomentumTraining):
    """Federated averaging of some layers; arguments as in :class:`MomentumTraining`."""

    personalizes: ClassVar[bool] = True

    def check_problem(self, problem: Problem) -> None:
        if type(problem) is not Classification:
            raise ValueError(
                f"problem: algorithm={self.name} shares layers of a model, so it needs problem=classification, and "
                f"this is {type(problem).__name__}"
            )

    @abstractmethod
    def shared_columns(self, layer_sizes: Sequence[int]) -> slice:
        """The columns that are averaged, of rows whose layers have these sizes; raises ValueError where none is."""

    def init(self, problem: Problem, network: Network) -> State:
        self.columns(problem)
        return super().init(problem, network)

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        params, shared = state["params"], self.columns(problem)
        self.train_(state, gradient_of(problem, problem.init_hparams()), step, problem)
        (params[:, shared],) = average((params[:, shared].contiguous(),), step, problem, network)
        return state

    def columns(self, problem: Problem) -> slice:
        return self.shared_columns(cast(Classification, problem).function.layout.layer_sizes)


def require_some_layers(setting: str, num_layers: int, layer_sizes: Sequence[int]) -> None:
    """Raises ValueError unless ``num_layers`` of the model are some, but not all of its layers."""
    if not 1 <= num_layers < len(layer_sizes):
        raise ValueError(
            f"algorithm.{setting}={num_layers}: the model has {len(layer_sizes)} layers with parameters, of which some "
            "must be shared and some private; expected at least 1 and fewer than that"
        )
