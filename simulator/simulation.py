"""A configuration made ready on one process: its components, its problem, its network, and how it is computed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from simulator import config, metrics
from simulator.algorithms.base import Algorithm, State
from simulator.algorithms.membership import step_with_churn
from simulator.config import Components
from simulator.devices import choose_compute
from simulator.faults.churn import Churn
from simulator.network.ledger import LinkModel
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import Problem, Reading, Setting
from simulator.watchdog import Watchdog
from simulator.world import World


@dataclass(frozen=True)
class Simulation:
    """What one process needs to step the nodes that it hosts.

    Shapes: N local nodes, D parameters.

    Attributes:
        settings: the resolved configuration.
        components: what it builds.
        problem: set up: data are read, the model is built.
        network: connects the local nodes with all others.
        choices: how the problem computes each kind of operation, such as ``{"first_order": "batched"}``.
    """

    settings: Mapping[str, Any]
    components: Components
    problem: Problem
    network: Network
    choices: Mapping[str, str]

    @classmethod
    def build(
        cls,
        settings: Mapping[str, Any],
        world: World = World(),  # noqa: B008
        *,
        components: Components | None = None,
        device: torch.device | None = None,
        choices: Mapping[str, str] | None = None,
        watchdog: Watchdog | None = None,
    ) -> "Simulation":
        """Builds and checks everything. Every process of ``world`` calls it, once they are connected.

        Rank 0 downloads data before the others read them, and chooses how to compute for all.

        Args:
            settings: a resolved configuration.
            world: this process among those of the simulation.
            components: used instead of those that ``settings`` describe.
            device: used instead of the one that ``settings`` ask for.
            choices: adopted instead of choosing how to compute.
            watchdog: what :func:`simulator.process_group.process_group` yields.

        Raises:
            ValueError: a user error, as one line.
        """
        if components is None:
            components = config.build(settings)
        config.check(settings, components, world.world_size)
        if device is None:
            device = choose_compute(settings["device"], world, None, settings["timeout_s"]).device
        network = Network(
            components.graph,
            Placement(settings["num_nodes"], world.world_size, world.rank),
            device,
            timeout_s=settings["timeout_s"],
            watchdog=watchdog,
            link_model=LinkModel(**settings["link"]),
            timing=components.timing,
            asynchronous=components.algorithm.asynchronous,
        )
        _set_up_problem(settings, components, network, device)
        config.check_hyperparameters(components)
        config.finish_graph(components)
        shared = _share_choices(components, network, choices)
        return cls(settings, components, components.problem, network, shared)

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the configuration."""
        return self.components.algorithm

    def init(self) -> State:
        """The state before step 0."""
        return self.algorithm.init(self.problem, self.network)

    def step(self, state: State, step: int, until_s: float | None = None) -> State:
        """The state after ``step``; the state that was given must not be used any more.

        Args:
            until_s: simulated seconds at which an asynchronous algorithm stops within the step; it is given again then.
        """
        churn = self.network.graph
        if isinstance(churn, Churn):
            self.network.begin_step(step, ~churn.is_away(step))
            return step_with_churn(self.algorithm, state, step, self.problem, self.network, churn)
        self.network.begin_step(step)
        return self.algorithm.step_until(state, step, self.problem, self.network, until_s)

    def run(self, state: State, first: int, last: int, after: Callable[[State, int], object] | None = None) -> State:
        """Steps ``first``..``last``-1; ``after`` is called with the state and the number of completed steps."""
        for step in range(first, last):
            state = self.step(state, step)
            if after is not None:
                after(state, step + 1)
        return state

    def evaluate(self, state: State, step: int, *, is_last: bool = False) -> metrics.Evaluation:
        """Evaluates the state after ``step`` completed steps; does not change it.

        ``evaluate_train`` and ``evaluate_samples`` say what is left out.
        """
        train = self.settings["evaluate_train"] == "always" or step == 0 or is_last
        reading = Reading(train, self.settings["evaluate_samples"])
        return metrics.evaluate(
            self.algorithm, state, step, self.problem, self.network, is_last=is_last, reading=reading
        )

    def estimate(self, state: State) -> Tensor:
        """The parameters that are evaluated, [N, D]."""
        return self.algorithm.estimate(self.algorithm.prepare_evaluation(state, self.problem, self.network))


def _set_up_problem(
    settings: Mapping[str, Any], components: Components, network: Network, device: torch.device
) -> None:
    """Reads the data and builds the model; rank 0 downloads first."""
    if device.type == "cuda":
        # Otherwise gradients of convolutions may add in any order, and a resumed run would have other bits.
        torch.backends.cudnn.deterministic = True
    if components.dataset is not None and network.placement.rank == 0:
        components.dataset.prepare()
    network.barrier()
    components.problem.setup(
        Setting(
            nodes=network.nodes,
            num_nodes=network.num_nodes,
            seed=settings["seed"],
            dtype=getattr(torch, settings["dtype"]),
            device=device,
            dataset=components.dataset,
            partition=components.partition,
            build_model=components.build_model,
            compute=settings["compute"],
            capture=settings["compute_capture"] and device.type == "cuda",
        )
    )


def _share_choices(components: Components, network: Network, given: Mapping[str, str] | None) -> dict[str, str]:
    """How to compute: the given choices or those of rank 0, adopted by every process."""
    operations = ["first_order"] + ["second_order"] * components.algorithm.needs_bilevel
    choices: object = None if given is None else dict(given)
    if choices is None and network.placement.rank == 0:
        choices = components.problem.choose_compute(operations)
    shared = network.share(choices)
    assert isinstance(shared, dict)
    components.problem.adopt_compute(shared)
    return shared
