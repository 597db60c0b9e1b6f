"""How well a schedule averages what the nodes hold at the start, round after round.

    error after k rounds    ||W_{k-1} ... W_0 - J||_F^2, the expected squared distance from the mean, summed over nodes,
                            of independent values of variance 1; with column-stochastic W of x / w after push-sum
    one-step reduction      ||W_t - J||_F^2, mean over the rounds of a period; with column-stochastic W again of x / w
    exact consensus         the first k at which the error is zero; only schedules that end exactly have one
    delay                   the first k after which every node has heard of every other, starting with round 0

Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022, and its published code.

Shapes: M nodes.
"""

from collections.abc import Sequence

import numpy as np

from simulator.arrays import FloatArray
from simulator.graphs.base import Edges, Graph
from simulator.randomness import generator
from simulator.topology.invariance import InvariantSpectra
from simulator.topology.rounds import as_matrix

_NEGLIGIBLE = 1e-26
_EXACT = 1e-12
_SUDDEN = 1e-6


def gossip_errors(graph: Graph, num_rounds: Sequence[int]) -> list[float]:
    """The error after each of ``num_rounds`` rounds; dense."""
    product: FloatArray = np.eye(graph.num_nodes)
    errors = [_deviation(product, graph)]
    for step in range(max(num_rounds, default=0)):
        product = as_matrix(graph.edges(step), graph.num_nodes) @ product
        errors.append(_deviation(product, graph))
        if errors[-1] < _NEGLIGIBLE:
            break
    return [errors[min(k, len(errors) - 1)] for k in num_rounds]


def invariant_gossip_errors(spectra: InvariantSpectra, num_rounds: Sequence[int]) -> list[float]:
    """The same from the spectra of an invariant schedule."""
    powers = np.abs(spectra.eigenvalues[:, 1:]) ** 2
    found = []
    for count in num_rounds:
        whole, rest = divmod(count, len(powers))
        found.append(float((powers.prod(axis=0) ** whole * powers[:rest].prod(axis=0)).sum()))
    return found


def one_step_reduction(graph: Graph, num_rounds: int) -> float:
    """Mean over the rounds of a period, or over ``num_rounds`` rounds of a random schedule; sparse."""
    rounds, total = graph.period or num_rounds, 0.0
    for step in range(rounds):
        edges, num_nodes = graph.edges(step), graph.num_nodes
        weight = edges.weight
        if graph.stochasticity == "column":
            weight = weight / np.bincount(edges.target, weight, num_nodes)[edges.target]
        # ||W - J||^2 = ||W||^2 - 2 (sum of W) / M + 1
        total += float(np.square(weight).sum() - 2.0 * weight.sum() / num_nodes + 1.0)
    return total / rounds


def rounds_to_consensus(graph: Graph, num_rounds: int) -> int | None:
    """The first of ``num_rounds`` rounds from round 0 after which all nodes hold the same; None if there is none.

    Exact consensus comes at once: the last round leaves nothing of a deviation that was still there. Schedules whose
    deviation shrinks into rounding error have not reached it.
    """
    if graph.num_nodes == 1:
        return 0
    values = generator(graph.seed, "topology/consensus").standard_normal((graph.num_nodes, 4))
    weights = np.ones((graph.num_nodes, 1))
    before = 1.0
    for step in range(num_rounds):
        matrix = as_matrix(graph.edges(step), graph.num_nodes)
        values = matrix @ values
        if graph.stochasticity == "column":
            weights = matrix @ weights
        ratios = values / weights
        after = float(np.abs(ratios - ratios.mean(axis=0)).max())
        if after < _EXACT:
            return step + 1 if after < _SUDDEN * before else None
        before = after
    return None


def most_rounds_to_consensus(graph: Graph) -> int:
    """Rounds within which the schedules that end exactly do: a few periods, or for static ones twice log2 M."""
    return 4 * (graph.period or 1) + 2 * graph.num_nodes.bit_length()


def ends_exactly(graph: Graph) -> int | None:
    """Rounds to exact consensus of a periodic schedule, or None."""
    return rounds_to_consensus(graph, most_rounds_to_consensus(graph)) if graph.period else None


def delay(graph: Graph, num_rounds: int) -> int | None:
    """Rounds from round 0 until every node has heard of every other, directly or through others.

    None if that takes more than ``num_rounds`` rounds. Dense.
    """
    if graph.num_nodes == 1:
        return 0
    heard = np.eye(graph.num_nodes, dtype=np.float32)
    for step in range(num_rounds):
        edges = graph.edges(step)
        used = Edges(edges.source, edges.target, (edges.weight != 0).astype(np.float64))
        arrived = as_matrix(used, graph.num_nodes).astype(np.float32) @ heard
        heard = np.asarray((heard + arrived) > 0, dtype=np.float32)
        if heard.all():
            return step + 1
    return None


def _deviation(product: FloatArray, graph: Graph) -> float:
    if graph.stochasticity == "column":
        product = product / product.sum(axis=1, keepdims=True)
    return float(np.square(product - 1.0 / graph.num_nodes).sum())
