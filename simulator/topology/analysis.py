"""Everything that is known of a schedule before training, each number by the way that its kind and size allow.

    kind of schedule                         walk (n_W)                      rates on quadratics
    invariant (rings, tori, hypercubes, ..)  exact, Fourier transform        exact, Fourier transform
    static symmetric, up to 2048 nodes       exact, eigenvalues              exact to 600 nodes, M x M operator
    other periodic, up to 1024 nodes         exact, doubling                 exact to 600 nodes, M x M operator
    random, up to 1024 nodes                 sampled rounds, standard error  scalar equation, if doubly stochastic
    larger                                   random signs, mean over nodes   none (random: as above)

What is not computed, or is not defined for a schedule, is None, with the reason under ``graph/undefined``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simulator.arrays import FloatArray
from simulator.graphs.base import Graph
from simulator.topology import gossip, links, neighbors
from simulator.topology.gaps import LARGEST_DENSE, gaps
from simulator.topology.invariance import InvariantSpectra, invariant_spectra
from simulator.topology.learning_rate_bound import Bound, learning_rate_bound
from simulator.topology.quadratic import (
    InvariantRates,
    MomentRates,
    Rates,
    ScalarRates,
    anisotropic_rate,
    steps_to_target,
    tune,
)
from simulator.topology.rounds import as_matrix, period_of
from simulator.topology.sampled_walk import SampledWalk
from simulator.topology.settings import AnalysisSettings
from simulator.topology.walk import InvariantWalk, PeriodicWalk, SymmetricWalk, Walk

_LARGEST_EIGENDECOMPOSITION = 2048
_LARGEST_MOMENTS = 600
_LARGEST_FINE_GRID = 100
_COARSE_GRID = 13
_LARGEST_ANISOTROPIC = 2_000_000
_RANDOM_ROUNDS = 100
_CURVE_POINTS, _COARSE_CURVE_POINTS = 100, 21


@dataclass
class Analysis:
    """The results of an analysis.

    Attributes:
        numbers: flat, by the names of ``summary.json``; None where undefined.
        undefined: name to the reason.
        curves: arrays for figures and ``report.npz``: ``gammas`` and ``num_neighbors``; ``lrs`` and ``rates``;
            ``by_node_gammas`` [G] and ``num_neighbors_by_node`` [G, M]; those that were computed.
        bounds: the scans of the bound on the learning rate, by form.
    """

    numbers: dict[str, Any] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)
    curves: dict[str, FloatArray] = field(default_factory=dict)
    bounds: dict[str, Bound] = field(default_factory=dict)

    def put(self, name: str, value: float | str | None, reason: str = "not finite") -> None:
        """Stores a number, or the reason why there is none (a string)."""
        if value is None or isinstance(value, str) or not math.isfinite(value):
            self.numbers[name] = None
            self.undefined[name] = value if isinstance(value, str) else reason
        else:
            self.numbers[name] = value


def decay_grid(points: int, largest: float = 4.0) -> FloatArray:
    """Decays that are evenly spaced in -log10(1 - gamma), from 0 to 1 - 10^-largest."""
    grid: FloatArray = 1.0 - 10.0 ** -np.linspace(0.0, largest, points)
    return grid


def make_walk(
    graph: Graph, invariant: InvariantSpectra | None, *, num_samples: int, max_rounds: int
) -> tuple[Walk, str]:
    """The walk on a schedule by the best way there is, and the name of the way."""
    if invariant is not None:
        group = " x ".join(f"Z_{factor}" for factor in invariant.factors)
        return InvariantWalk(invariant), f"exact, invariant under {group}"
    if graph.period is not None:
        single = as_matrix(graph.edges(0), graph.num_nodes)
        if (
            graph.period == 1
            and graph.num_nodes <= _LARGEST_EIGENDECOMPOSITION
            and abs(single - single.T).max() < 1e-12
        ):
            return SymmetricWalk(graph.edges(0).to_matrix(graph.num_nodes)), "exact, eigenvalues"
        if graph.num_nodes <= LARGEST_DENSE:
            return PeriodicWalk(period_of(graph)), "exact, doubling"
    by_node = graph.num_nodes <= LARGEST_DENSE
    walk = SampledWalk(graph, num_samples=num_samples, max_rounds=max_rounds, by_node=by_node)
    return walk, f"{'sampled rounds' if by_node else 'random signs'}, {walk.rounds_to_agreement} rounds each"


def analyse(graph: Graph, settings: AnalysisSettings) -> Analysis:
    """Analyses one schedule.

    Raises:
        ValueError: when a setting is out of range.
    """
    settings.check()
    found = Analysis()
    invariant = invariant_spectra(graph)
    walk, way = make_walk(graph, invariant, num_samples=settings.num_samples, max_rounds=settings.max_rounds)
    found.numbers["graph/walk"] = f"{way}; of {_MEANING[graph.stochasticity]}"
    for name, value in gaps(graph, invariant, num_rounds=_RANDOM_ROUNDS).items():
        found.put(f"graph/{name}", value)
    _neighbors(found, graph, walk, settings)
    _gossip(found, graph, invariant, walk, settings)
    _links(found, graph, invariant is not None, settings)
    _rates(found, graph, invariant, walk, settings)
    _bounds(found, invariant, walk, settings)
    found.numbers["graph/undefined"] = found.undefined
    return found


_MEANING: Mapping[str, str] = {
    "double": "x",
    "column": "x over push-sum weights",
    "row": "x, which agrees on a weighted mean",
}


def _neighbors(found: Analysis, graph: Graph, walk: Walk, settings: AnalysisSettings) -> None:
    sampled = isinstance(walk, SampledWalk)
    unfinished = "the sampled rounds end too long before agreement for this gamma; more algorithm.max_rounds"
    symmetric = not graph.directed and graph.period == 1 and graph.stochasticity == "double"
    gap = found.numbers["graph/spectral_gap"]
    for gamma in settings.gammas:
        at = f"@gamma={gamma:g}"
        name = f"graph/effective_num_neighbors{at}"
        found.put(name, neighbors.effective_num_neighbors(walk, gamma), unfinished)
        if walk.knows_nodes:
            found.put(
                f"graph/effective_num_neighbors_worst{at}",
                neighbors.effective_num_neighbors_worst(walk, gamma),
                unfinished,
            )
        else:
            found.put(f"graph/effective_num_neighbors_worst{at}", "random signs give the mean over nodes only")
        if sampled:
            found.put(f"graph/effective_num_neighbors_stderr{at}", neighbors.standard_error(walk, gamma), unfinished)
        if isinstance(walk, InvariantWalk | PeriodicWalk) and (graph.period or 1) > 1:
            last = neighbors.effective_num_neighbors_last_phase(walk, gamma)
            found.put(f"graph/effective_num_neighbors_last_phase{at}", last)
        if symmetric and gap is not None:
            found.put(f"graph/effective_num_neighbors_bound{at}", neighbors.bound_by_gap(graph.num_nodes, gamma, gap))
    if walk.knows_nodes and len(settings.gammas):
        found.curves["by_node_gammas"] = np.array(list(settings.gammas), dtype=np.float64)
        found.curves["num_neighbors_by_node"] = np.stack(
            [neighbors.effective_num_neighbors_by_node(walk, gamma) for gamma in settings.gammas]
        )
    slow = isinstance(walk, PeriodicWalk) and graph.num_nodes > _LARGEST_FINE_GRID
    grid = decay_grid(_COARSE_CURVE_POINTS if slow else _CURVE_POINTS)
    found.curves["gammas"] = grid
    found.curves["num_neighbors"] = np.array([neighbors.effective_num_neighbors(walk, gamma) for gamma in grid])


def _gossip(
    found: Analysis, graph: Graph, invariant: InvariantSpectra | None, walk: Walk, settings: AnalysisSettings
) -> None:
    counts = sorted(settings.gossip_rounds)
    large = f"more than {LARGEST_DENSE} nodes"
    errors: Sequence[float | str]
    if invariant is not None:
        errors = gossip.invariant_gossip_errors(invariant, counts)
    elif graph.num_nodes <= LARGEST_DENSE:
        errors = gossip.gossip_errors(graph, counts)
    else:
        errors = [large] * len(counts)
    for count, error in zip(counts, errors, strict=True):
        found.put(f"graph/gossip_error@rounds={count}", error)
    found.put("graph/one_step_reduction", gossip.one_step_reduction(graph, _RANDOM_ROUNDS))
    distance = walk.distance()
    if graph.stochasticity != "double":
        found.put("graph/random_walk_distance", "defined for doubly stochastic schedules only")
    else:
        found.put("graph/random_walk_distance", distance, "the nodes do not come to agree, or not within max_rounds")
    found.put(
        "graph/rounds_to_consensus",
        gossip.ends_exactly(graph) if graph.period else "random schedules do not end exactly",
        f"no exact consensus within {gossip.most_rounds_to_consensus(graph)} rounds",
    )
    if graph.num_nodes <= LARGEST_DENSE:
        limit = 2 * graph.num_nodes * (graph.period or 1)
        found.put(
            "graph/delay", gossip.delay(graph, limit), f"some nodes have not heard of all others within {limit} rounds"
        )
    else:
        found.put("graph/delay", large)


def _links(found: Analysis, graph: Graph, is_invariant: bool, settings: AnalysisSettings) -> None:
    low, high = links.diameter(graph, _RANDOM_ROUNDS, invariant=is_invariant)
    if low == high:
        found.put("graph/diameter", low, "some nodes never hear of some others")
    else:
        found.put("graph/diameter", f"too many nodes for all searches; between {low:g} and {high:g}")
    counts = links.traffic(graph, _RANDOM_ROUNDS)
    # Push-sum also sends its weight.
    payload = (settings.num_parameters + (graph.stochasticity == "column")) * settings.bytes_per_parameter
    found.numbers |= {
        "graph/max_degree": counts.max_degree,
        "graph/mean_degree": counts.mean_degree,
        "graph/messages_per_round": counts.messages_per_round,
        "graph/bytes_per_round": counts.messages_per_round * payload,
        "graph/bytes_per_round_busiest_node": counts.max_sent_per_round * payload,
        "graph/period": graph.period,
    }


def _rates(
    found: Analysis, graph: Graph, invariant: InvariantSpectra | None, walk: Walk, settings: AnalysisSettings
) -> None:
    names = [f"quadratic/rate@lr={lr:g}" for lr in settings.rate_lrs]
    rates = _choose_rates(graph, invariant, walk, settings.zeta)
    if isinstance(rates, str):
        for name in ("quadratic/best_lr", "quadratic/best_rate", "quadratic/steps_to_target", *names):
            found.put(name, rates)
    else:
        slow = isinstance(rates, MomentRates) and graph.num_nodes > _LARGEST_FINE_GRID
        points = min(_COARSE_GRID, settings.num_lrs) if slow else settings.num_lrs
        best = tune(rates, np.logspace(-3.0, 0.0, points))
        found.put("quadratic/best_lr", best.lr)
        found.put("quadratic/best_rate", best.rate)
        found.put("quadratic/steps_to_target", steps_to_target(best.rate, settings.target), "no rate is positive")
        for name, lr in zip(names, settings.rate_lrs, strict=True):
            found.put(name, rates.rate(lr))
        found.curves |= {"lrs": best.lrs, "rates": best.rates}
        exact = "scalar equation, exact if rounds are exchangeable" if isinstance(rates, ScalarRates) else "exact"
        found.numbers["quadratic/way"] = f"{exact}; best of {points} learning rates, refined"
    if not len(settings.feature_variances):
        return
    size = len(settings.feature_variances) * graph.num_nodes**2
    for lr in settings.rate_lrs:
        name = f"quadratic/anisotropic_rate@lr={lr:g}"
        if graph.period is None or graph.stochasticity == "column" or size > _LARGEST_ANISOTROPIC:
            found.put(name, f"for row- or doubly stochastic schedules of up to {_LARGEST_ANISOTROPIC} moments only")
        else:
            found.put(name, anisotropic_rate(period_of(graph), lr, settings.feature_variances, settings.batch_size))


def _choose_rates(graph: Graph, invariant: InvariantSpectra | None, walk: Walk, zeta: float) -> Rates | str:
    if invariant is not None:
        return InvariantRates(invariant, zeta)
    if graph.period is not None:
        if graph.num_nodes <= _LARGEST_MOMENTS:
            return MomentRates(period_of(graph), zeta)
        return f"irregular schedule of more than {_LARGEST_MOMENTS} nodes"
    if graph.stochasticity != "double":
        return "random schedule that is not doubly stochastic"
    if isinstance(walk, SampledWalk) and not walk.agrees:
        return "the sampled rounds end before agreement; more algorithm.max_rounds"
    return ScalarRates(lambda gamma: neighbors.effective_num_neighbors(walk, gamma), zeta)


def _bounds(found: Analysis, invariant: InvariantSpectra | None, walk: Walk, settings: AnalysisSettings) -> None:
    """The theorem's bound with W, the same with (I + W) / 2, and the older form with W."""
    names = {"theorem": "theory/max_lr", "lazy": "theory/max_lr_lazy", "older": "theory/max_lr_older"}
    values = _real_eigenvalues(invariant, walk)
    if values is None:
        for name in names.values():
            found.put(name, "needs a static symmetric mixing matrix whose eigenvalues are known")
        return
    smoothness, zeta = settings.smoothness, settings.theorem_zeta
    grid = decay_grid(161, 5.0)
    lazy_values = (1.0 + values) / 2.0

    def worst(gamma: float) -> float:
        return neighbors.effective_num_neighbors_worst(walk, gamma)

    def lazy_worst(gamma: float) -> float:
        return _num_neighbors_worst(walk, lazy_values, gamma)

    found.bounds = {
        "theorem": learning_rate_bound(values, worst, grid, smoothness=smoothness, zeta=zeta),
        "lazy": learning_rate_bound(lazy_values, lazy_worst, grid, smoothness=smoothness, zeta=zeta),
        "older": learning_rate_bound(values, worst, grid, form="older", smoothness=smoothness, zeta=zeta),
    }
    for form, name in names.items():
        bound = found.bounds[form]
        found.put(name, bound.lr, "beta is not positive: W has an eigenvalue that is not positive")
        found.put(f"{name}_gamma", bound.gamma, "as for the rate")
        found.put(f"{name}_num_neighbors", bound.neighbors, "as for the rate")


def _real_eigenvalues(invariant: InvariantSpectra | None, walk: Walk) -> FloatArray | None:
    if isinstance(walk, SymmetricWalk):
        return walk.eigenvalues
    if invariant is not None and len(invariant.eigenvalues) == 1 and np.abs(invariant.eigenvalues.imag).max() < 1e-12:
        return np.asarray(invariant.eigenvalues[0].real)
    return None


def _num_neighbors_worst(walk: Walk, eigenvalues: FloatArray, gamma: float) -> float:
    """n_W of the worst node with other eigenvalues in the order of the walk's."""
    squares = eigenvalues**2 / (1.0 - gamma * eigenvalues**2)
    variance = walk.squared_vectors @ squares if isinstance(walk, SymmetricWalk) else squares.mean()
    return 1.0 / ((1.0 - gamma) * float(np.max(variance)))
