"""Any graph that networkx can generate.

Definition: the named generator is called with the given arguments, and also with n = num_nodes and with a seed derived
from ``seed`` where it has parameters of these names that are not given. Nodes are numbered in the generator's order,
parallel edges merged, edge attributes ignored. An undirected graph gets Metropolis weights (doubly stochastic), a
directed one 1/out-degree (column-stochastic), or those of another rule. Static.
Sends: 1 message per node, neighbour and round.
Source: Hagberg, Schult and Swart, "Exploring network structure, dynamics, and function using NetworkX", 2008.
Departures: none.
"""

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from simulator.graphs.base import Edges, PeriodicGraph, Stochasticity
from simulator.graphs.support import directed_support, numbered_pairs, undirected_support
from simulator.graphs.weight_rules import AUTO, rule_of
from simulator.graphs.weights import WeightRule
from simulator.randomness import derive_key

DEFAULT_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {"connected_watts_strogatz_graph": {"k": 4, "p": 0.1}}
"""Of the generator that is the default of ``graph=networkx``."""


class NetworkX(PeriodicGraph):
    """A static graph made by a generator of networkx.

    Args:
        generator: name of a function of networkx that returns a graph, such as "watts_strogatz_graph".
        arguments: its arguments by name; n and seed are passed unless given here. None for :data:`DEFAULT_ARGUMENTS`.
        weights: name of a weight rule, see :func:`simulator.graphs.weight_rules.rule_of`.
        gamma: of the rule nw_optimal, in (0, 1); other rules do not use it.

    Raises:
        ValueError: from the first use, when there is no such generator, when it refuses its arguments, when it makes
            another number of nodes than ``num_nodes``, or when no such rule fits what it makes.
    """

    def __init__(
        self,
        *,
        num_nodes: int,
        generator: str,
        arguments: Mapping[str, Any] | None = None,
        weights: str = AUTO,
        gamma: float = 0.95,
        seed: int = 0,
    ) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        self.generator = generator
        self.arguments: Mapping[str, Any] = DEFAULT_ARGUMENTS.get(generator, {}) if arguments is None else arguments
        self.weights = weights
        self.gamma = gamma

    @property
    def directed(self) -> bool:
        """What the generator returns."""
        return bool(self._graph.is_directed())

    @property
    def stochasticity(self) -> Stochasticity:
        """Depends on what the generator returns, and on the rule."""
        return self._rule[1]

    @cached_property
    def _rule(self) -> tuple[WeightRule, Stochasticity]:
        return rule_of(self.weights, self.num_nodes, self.gamma, directed=self.directed)

    @cached_property
    def _graph(self) -> Any:
        # Imported here: it takes a third of a second, and only this schedule uses it.
        import networkx

        function = getattr(networkx, self.generator, None)
        if self.generator.startswith("_") or not callable(function):
            raise ValueError(f"graph.generator={self.generator!r}: networkx has no function of this name")
        call = f"networkx.{self.generator}"
        arguments = {str(name): _plain(value) for name, value in self.arguments.items()}
        parameters = inspect.signature(function).parameters
        automatic = {"n": self.num_nodes, "seed": derive_key(self.seed, "graph/networkx") % 2**32}
        arguments = {name: value for name, value in automatic.items() if name in parameters} | arguments
        try:
            graph = function(**arguments)
        except (
            TypeError,
            ValueError,
            AttributeError,
            LookupError,
            ArithmeticError,
            networkx.NetworkXException,
        ) as error:
            shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"graph.arguments: {call}({shown}) failed: {reason}") from error
        if not isinstance(graph, networkx.Graph):
            raise ValueError(f"graph.generator={self.generator!r}: {call} returns no graph")
        if len(graph) != self.num_nodes:
            raise ValueError(
                f"graph.generator={self.generator!r}: {call} made a graph of {len(graph)} nodes, but "
                f"num_nodes={self.num_nodes}; change num_nodes or graph.arguments"
            )
        return graph

    def build(self, phase: int) -> Edges:
        """Numbers the nodes and weights the edges."""
        support = directed_support if self.directed else undirected_support
        source, target = support(*numbered_pairs(self._graph), self.num_nodes)
        return Edges.from_sorted(source, target, self._rule[0](source, target, self.num_nodes))


def _plain(value: Any) -> Any:
    """Configuration containers as the dicts and lists that networkx expects."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
