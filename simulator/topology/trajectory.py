"""D-SGD on random quadratics step by step: exact second moments from a common start.

With a ~ N(0, diag(s)), gradients of b samples and nodes that all start from x, features k of the nodes have second
moments m^k_ij = E[x_i^k x_j^k], which begin as (x^k)^2 everywhere. A round makes of them

    adapt-then-combine:  W ((1 - lr s_k)^2 m^k + D^k) W'
    combine-and-adapt:   (W - lr s_k I) m^k (W - lr s_k I)' + D^k
    with                 D^k = lr^2 / b Diag(s_k^2 m^k_ii + s_k sum_l s_l m^l_ii)

which holds for every W, and for random schedules given their rounds. Features of equal variance are summed up. On
invariant schedules W is diagonal in the characters of the group and so is m^k; then any size is affordable.

Source: Vogels, Hendrikx and Jaggi, "Beyond spectral gap", NeurIPS 2022 (equal variances; arXiv 2206.03093).
Departures: unlike variances, the other order, learning rates that change.

Shapes: M nodes, T rounds of a period, S steps, G groups of features with equal variances.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from simulator.arrays import FloatArray
from simulator.graphs.base import Graph
from simulator.topology.invariance import InvariantSpectra, invariant_spectra
from simulator.topology.rounds import as_matrix

Order = Literal["adapt_then_combine", "combine_and_adapt"]

# M x M matrices of all groups together.
LARGEST_MOMENTS = 4_000_000


@dataclass(frozen=True)
class Trajectory:
    """Expectations before the first step and after every step, each [S + 1].

    Attributes:
        squared_norm: mean over nodes of E||x_i||^2.
        squared_mean: E||mean x||^2.
    """

    squared_norm: FloatArray
    squared_mean: FloatArray

    @property
    def squared_distance(self) -> FloatArray:
        """Mean over nodes of E||x_i - mean x||^2."""
        return self.squared_norm - self.squared_mean


@dataclass(frozen=True)
class _Features:
    """Features by variance: s_g, how many there are, and the sum of (x^k)^2 at the start; each [G]."""

    variances: FloatArray
    counts: FloatArray
    start: FloatArray

    @classmethod
    def of(cls, start: npt.ArrayLike, variances: npt.ArrayLike) -> "_Features":
        squares = np.square(np.asarray(start, dtype=np.float64))
        groups, place, counts = np.unique(
            np.asarray(variances, dtype=np.float64), return_inverse=True, return_counts=True
        )
        return cls(groups, counts.astype(np.float64), np.asarray(np.bincount(place, weights=squares), dtype=np.float64))

    def noise(self, own: FloatArray, lr: float, batch_size: int) -> FloatArray:
        """What a step adds to the variances ``own`` [G, ...] of nodes."""
        strength = np.tensordot(self.variances, own, axes=1)
        shape = (-1, *[1] * (own.ndim - 1))
        s, counts = self.variances.reshape(shape), self.counts.reshape(shape)
        found: FloatArray = lr**2 / batch_size * (s**2 * own + counts * s * strength)
        return found


def trajectory(
    graph: Graph,
    start: npt.ArrayLike,
    variances: npt.ArrayLike,
    lrs: Sequence[float],
    *,
    batch_size: int,
    order: Order,
) -> Trajectory:
    """The expectations over ``len(lrs)`` steps, of which step t takes round t of the schedule.

    Args:
        graph: a doubly stochastic schedule.
        start: x of all nodes, [d].
        variances: s, [d].
        lrs: learning rate of every step.
        batch_size: b.
        order: of the algorithm.

    Raises:
        ValueError: for large schedules that are not invariant.
    """
    features = _Features.of(start, variances)
    spectra = invariant_spectra(graph)
    if spectra is not None:
        return _invariant(spectra, features, lrs, batch_size, order)
    if len(features.variances) * graph.num_nodes**2 > LARGEST_MOMENTS:
        raise ValueError(
            f"{graph.description} with {graph.num_nodes} nodes and {len(features.variances)} different variances: more "
            f"than {LARGEST_MOMENTS} moments, and the schedule does not look the same from every node"
        )
    return _dense(graph, features, lrs, batch_size, order)


def _dense(graph: Graph, features: _Features, lrs: Sequence[float], batch_size: int, order: Order) -> Trajectory:
    num_nodes = graph.num_nodes
    nodes = np.arange(num_nodes)
    moments = np.tile(features.start[:, None, None], (1, num_nodes, num_nodes))
    norms, means = [float(features.start.sum())], [float(features.start.sum())]
    for step, lr in enumerate(lrs):
        matrix = as_matrix(graph.edges(step), num_nodes)
        noise = features.noise(moments[:, nodes, nodes], lr, batch_size)
        for group, variance in enumerate(features.variances):
            kept = moments[group]
            if order == "adapt_then_combine":
                kept = (1.0 - lr * variance) ** 2 * kept
                kept[nodes, nodes] += noise[group]
                moments[group] = matrix @ (matrix @ kept).T
            else:
                half = matrix @ kept - lr * variance * kept
                kept = matrix @ half.T - lr * variance * half.T
                kept[nodes, nodes] += noise[group]
                moments[group] = kept
        norms.append(float(moments[:, nodes, nodes].sum()) / num_nodes)
        means.append(float(moments.sum()) / num_nodes**2)
    return Trajectory(np.array(norms), np.array(means))


def _invariant(
    spectra: InvariantSpectra, features: _Features, lrs: Sequence[float], batch_size: int, order: Order
) -> Trajectory:
    """From the eigenvalues of the moments, [G, M]: their mean is the moment of a node, the first M times the mean's."""
    num_nodes = spectra.num_nodes
    values = np.zeros((len(features.start), num_nodes))
    values[:, 0] = num_nodes * features.start
    norms, means = [float(features.start.sum())], [float(features.start.sum())]
    for step, lr in enumerate(lrs):
        eigenvalues = spectra.eigenvalues[step % len(spectra.eigenvalues)]
        noise = features.noise(values.mean(axis=1), lr, batch_size)[:, None]
        descent = lr * features.variances[:, None]
        if order == "adapt_then_combine":
            values = np.abs(eigenvalues) ** 2 * ((1.0 - descent) ** 2 * values + noise)
        else:
            values = np.abs(eigenvalues - descent) ** 2 * values + noise
        norms.append(float(values.mean(axis=1).sum()))
        means.append(float(values[:, 0].sum()) / num_nodes)
    return Trajectory(np.array(norms), np.array(means))
