"""The consensus step size gamma of compressed gossip: how far a node moves along the disagreement of references.

A setting is a number in (0, 1], null for what suits the compressor, or ``theory``: the value for which compressed
gossip on a static graph is proved to converge,
    gamma = rho^2 delta / (16 rho + rho^2 + 4 beta^2 + 2 rho beta^2 - 8 rho delta),   rho = 1 - |lambda_2(W)|,
    beta = ||I - W||_2,   E||v - Q(v)||^2 <= (1 - delta) ||v||^2,
which is far smaller than what works.

Source: Koloskova, Stich and Jaggi, ICML 2019 (arXiv 1902.00340), theorem 2.
"""

from functools import lru_cache

import numpy as np

from simulator.algorithms.compressed.requirements import require_contraction
from simulator.compressors.base import Compressor
from simulator.graphs.base import Graph
from simulator.graphs.spectra import spectral_gap

ConsensusLr = float | str | None

_LARGEST_DENSE = 1000


def check_consensus_lr(setting: ConsensusLr) -> None:
    """Raises ValueError unless ``setting`` is one of the three."""
    fits = setting == "theory" if isinstance(setting, str) else setting is None or 0 < setting <= 1
    if not fits:
        raise ValueError(
            f"algorithm.consensus_lr={setting}: expected a number in (0, 1], theory, or null for the compressor's"
        )


def check_theory_applies(setting: ConsensusLr, graph: Graph) -> None:
    """Raises ValueError when the value of theory is asked for on a graph that changes."""
    if setting == "theory" and graph.period != 1:
        raise ValueError(
            f"algorithm.consensus_lr=theory needs a static graph, and graph {graph.description} changes; give a "
            "number in (0, 1], or null for the compressor's"
        )


def consensus_lr(setting: ConsensusLr, compressor: Compressor, graph: Graph, num_columns: int) -> float:
    """The step size for rows of ``num_columns`` columns.

    Raises:
        ValueError: when the value of theory is asked for and the compressor is no contraction.
    """
    if setting is None:
        return compressor.consensus_lr
    if isinstance(setting, str):
        require_contraction(compressor, num_columns, "algorithm.consensus_lr=theory")
        return theoretical_consensus_lr(graph, compressor.contraction(num_columns))
    return setting


@lru_cache(maxsize=8)
def theoretical_consensus_lr(graph: Graph, contraction: float) -> float:
    """The value of theory on a static graph; above 1000 nodes beta is bounded by 2."""
    rho, beta = spectral_gap(graph), 2.0
    if graph.num_nodes <= _LARGEST_DENSE:
        beta = float(np.linalg.norm(np.eye(graph.num_nodes) - graph.edges(0).to_matrix(graph.num_nodes), 2))
    below = 16 * rho + rho**2 + 4 * beta**2 + 2 * rho * beta**2 - 8 * rho * contraction
    return rho**2 * contraction / below
