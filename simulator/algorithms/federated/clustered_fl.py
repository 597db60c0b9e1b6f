"""Clustered federated learning: the hub splits nodes with dissimilar updates and averages within each cluster.

Update equations, one step being one round (see local_training.py):
    y_i <- a local epoch of SGD with momentum from x_i;    d_i = y_i - x_i
    the hub splits a cluster C of more than 2 nodes in two if ||mean_C d_i|| < mean_threshold and
    max_C ||d_i|| > max_threshold, by complete linkage of the distances 1 - cos(d_i, d_j);
    x_i <- x_i + sum_{j in C} n_j d_j / sum_{j in C} n_j with C the cluster of node i, n_j its training samples.
The mean of the first criterion counts every node once.
State: ``params`` [N, D], ``clusters`` [N]; with momentum also ``momentum`` [N, D].
Needs: graph=hub.
Sends: up D + 1 numbers from every other node, d_i and its cluster; down, to every other node, M numbers that say who is
in which cluster, and D numbers for every cluster, of which a node uses those of its own.
Source: Sattler, Mueller and Samek, IEEE TNNLS 2021 (arXiv 1910.01991); the criteria on one epoch's updates, and at most
one split per cluster and round, as in the released code of Marfoq et al. (arXiv 2108.10252).
Departures: a split is that of complete linkage instead of the best bipartition. There a cluster that was split before
is split again by the positions of its nodes within it, which names other nodes; here by its nodes. A node that the hub
does not hear, or that has no data, stays in its cluster and does not count; one that does not hear the hub goes on from
its own y_i.

A cluster is named after the first node that it had when it came to be, which never leaves it.
Shapes: N local nodes, M all nodes, D parameters, U nodes that the hub hears.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.federated.local_training import (
    HUB,
    MomentumTraining,
    from_hub,
    gradient_of,
    has_hub,
    sample_weights,
    weighted_sum,
)
from simulator.arrays import FloatArray, IntArray
from simulator.checks import require_positive
from simulator.graphs.base import Graph
from simulator.network.network import Network
from simulator.padding import copy_as, zeros_as
from simulator.problems.base import Problem
from simulator.uploads import upload, upload_like


def bipartition(products: FloatArray) -> IntArray:
    """Splits updates in two by complete linkage of their cosine distances.

    Args:
        products: the updates' inner products, [U, U], U at least 2.

    Returns:
        0 or 1 for each, [U]; 0 for the first.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    norms = np.sqrt(np.diag(products))
    norms = np.where(norms > 0, norms, 1.0)
    distances = np.maximum(1.0 - products / np.outer(norms, norms), 0.0)
    np.fill_diagonal(distances, 0.0)
    labels = fcluster(linkage(squareform(distances, checks=False), method="complete"), 2, criterion="maxclust")
    part: IntArray = (labels != labels[0]).astype(np.int64)
    return part


def split_clusters(
    clusters: IntArray, nodes: IntArray, products: FloatArray, mean_threshold: float, max_threshold: float
) -> IntArray:
    """Splits each cluster once at most.

    Args:
        clusters: cluster of every node that is heard, [U].
        nodes: which nodes these are, ascending, [U].
        products: inner products of their updates, [U, U].

    Returns:
        The new clusters of these nodes, [U].
    """
    clusters = clusters.copy()
    for cluster in np.unique(clusters):
        mine = np.flatnonzero(clusters == cluster)
        if len(mine) <= 2:
            continue
        block = products[np.ix_(mine, mine)]
        if np.sqrt(max(block.mean(), 0.0)) < mean_threshold and np.sqrt(block.diagonal().max()) > max_threshold:
            away = mine[bipartition(block) == 1]
            if away.size:
                clusters[away] = nodes[away[0]]
    return clusters


@dataclass(frozen=True, kw_only=True)
class ClusteredFL(MomentumTraining):
    """Clustered federated learning.

    Args:
        lr, lr_schedule, local_steps, momentum: of the local training.
        mean_threshold: a cluster may split when the norm of its mean update is below this.
        max_threshold: and the largest norm of its updates above this.
    """

    mean_threshold: float
    max_threshold: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("algorithm.mean_threshold", self.mean_threshold)
        require_positive("algorithm.max_threshold", self.max_threshold)

    def check_graph(self, graph: Graph) -> None:
        if not has_hub(graph):
            raise ValueError(f"algorithm={self.name} needs graph=hub, and this graph is {graph.description}")

    def init(self, problem: Problem, network: Network) -> State:
        state = super().init(problem, network)
        return {**state, "clusters": state["params"].new_zeros(len(state["params"]))}

    def step(self, state: State, step: int, problem: Problem, network: Network) -> State:
        start = copy_as(state["params"])
        self.train_(state, gradient_of(problem, problem.init_hparams()), step, problem)
        return {**state, **self._average_by_cluster(start, state["params"], state["clusters"], step, problem, network)}

    def _average_by_cluster(
        self, start: Tensor, trained: Tensor, clusters: Tensor, step: int, problem: Problem, network: Network
    ) -> State:
        """One round over the hub; returns the new parameters and clusters."""
        inbox = network.exchange((trained - start, clusters), 2 * step)
        news = trained.new_full((len(trained), network.num_nodes), -1.0)
        means: list[Tensor] = []
        to_hub = inbox.target == HUB
        if to_hub.any():
            nodes, rows = inbox.source[to_hub], inbox.row[to_hub]
            # The host waits for the device once.
            read = torch.cat([inbox.rows[0] @ inbox.rows[0].T, inbox.rows[1][:, None]], dim=1).double().cpu().numpy()
            products, old = read[np.ix_(rows, rows)], read[rows, -1].astype(np.int64)
            found, counts = old.copy(), problem.sample_counts()
            has_data = np.ones(len(nodes), dtype=bool) if counts is None else counts[nodes] > 0
            found[has_data] = split_clusters(
                old[has_data],
                nodes[has_data],
                products[np.ix_(has_data, has_data)],
                self.mean_threshold,
                self.max_threshold,
            )
            news[HUB].index_copy_(0, upload(nodes, news.device), upload_like(found, news))
            for cluster in np.unique(found):
                members = found == cluster
                weights = sample_weights(problem, nodes[members])
                means.append(weighted_sum(inbox.rows[0], rows[members], weights))
        (news,) = from_hub((news,), step, network)
        said = news.cpu().numpy()
        own = said[np.arange(len(said)), np.asarray(network.nodes)]
        clusters = torch.where(upload(own >= 0, clusters.device), upload_like(own, clusters), clusters)
        # The hub hears itself, so a row that says nothing about it has not come.
        hears = said[:, HUB] >= 0
        heard = upload(hears, news.device)
        names = [name for name in np.unique(said[hears][0]).tolist() if name >= 0] if hears.any() else []
        # How many messages follow is what a transport reads from the first one's header.
        (count,) = network.agree([len(means)])
        for position in range(count):
            update = zeros_as(trained)
            if means:
                update[HUB] = means[position]
            (update,) = from_hub((update,), step, network)
            if names:
                takes = heard & (clusters == names[position])
                trained = torch.where(takes[:, None], start + update, trained)
        return {"params": trained, "clusters": clusters}

    def diagnose(
        self, state: State, step: int, problem: Problem, network: Network, *, is_last: bool
    ) -> Mapping[str, float | Tensor]:
        return {"num_clusters": len(network.gather(state["clusters"]).unique())}
