"""Any graph that networkx can generate.

Definition: the named generator is called with the given arguments, and also with n = num_nodes and with a seed derived
from ``seed`` where it has parameters of these names that are not given. Nodes are numbered in the generator's order,
parallel edges merged, edge attributes ignored. An undirected graph gets Metropolis weights (doubly stochastic), a
directed one 1/out-degree (column-stochastic). Static.
Sends: 1 message per node, neighbour and round.
Source: Hagberg, Schult and Swart, "Exploring network structure, dynamics, and function using NetworkX", 2008.
Departures: none.
"""

import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from simulator.graphs.base import Edges, PeriodicGraph, Stochasticity
from simulator.graphs.support import directed_support, undirected_support
from simulator.graphs.weights import metropolis, out_degree
from simulator.randomness import derive_key


class NetworkX(PeriodicGraph):
    """A static graph made by a generator of networkx.

    Args:
        generator: name of a function of networkx that returns a graph, such as "watts_strogatz_graph".
        arguments: its arguments by name; n and seed are passed unless given here.

    Raises:
        ValueError: from the first use, when there is no such generator, when it refuses its arguments, or when it
            makes another number of nodes than ``num_nodes``.
    """

    def __init__(
        self, *, num_nodes: int, generator: str, arguments: Mapping[str, Any] | None = None, seed: int = 0
    ) -> None:
        super().__init__(num_nodes=num_nodes, seed=seed)
        self.generator = generator
        self.arguments: Mapping[str, Any] = {} if arguments is None else arguments

    @property
    def directed(self) -> bool:
        """What the generator returns."""
        return bool(self._graph.is_directed())

    @property
    def stochasticity(self) -> Stochasticity:
        """Depends on what the generator returns."""
        return "column" if self.directed else "double"

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
        graph = self._graph
        number = {node: index for index, node in enumerate(graph)}
        pairs = np.array([(number[a], number[b]) for a, b in graph.edges()], dtype=np.int64).reshape(-1, 2)
        if self.directed:
            source, target = directed_support(pairs[:, 0], pairs[:, 1], self.num_nodes)
            return Edges.from_sorted(source, target, out_degree(source, target, self.num_nodes))
        source, target = undirected_support(pairs[:, 0], pairs[:, 1], self.num_nodes)
        return Edges.from_sorted(source, target, metropolis(source, target, self.num_nodes))


def _plain(value: Any) -> Any:
    """Configuration containers as the dicts and lists that networkx expects."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
