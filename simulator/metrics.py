"""What is reported of a run: means and tails over nodes, consensus, traffic, oracle calls and time.

Shapes: N local nodes, M all nodes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import Algorithm, State, consensus_distance
from simulator.faults.byzantine import Byzantine
from simulator.network.network import Network
from simulator.problems.base import Problem, Reading
from simulator.timing.event_times import EventTimes


@dataclass(frozen=True)
class Evaluation:
    """One evaluation.

    Attributes:
        numbers: metric name to number.
        per_node: metric name to its value at every node, [M].
        iterate_rms: root mean square of the parameters and of the hyperparameters of all nodes; not reported.
    """

    numbers: dict[str, float]
    per_node: dict[str, Tensor]
    iterate_rms: dict[str, float]


def evaluate(
    algorithm: Algorithm,
    state: State,
    step: int,
    problem: Problem,
    network: Network,
    *,
    is_last: bool = False,
    reading: Reading = Reading(),  # noqa: B008
) -> Evaluation:
    """Evaluates the state after ``step`` completed steps; every process must call it. Does not change the state.

    All metrics, ``consensus_distance`` too, are those of the models that ``estimate`` returns for the state that
    ``prepare_evaluation`` has prepared.

    Args:
        is_last: whether this is the last evaluation of the run.
        reading: what the problem reads for it.

    Raises:
        ValueError: when the algorithm's ``diagnose`` returns a metric that the problem reports, too.
    """
    with problem.uncounted(), problem.evaluating(reading):
        return _evaluate(algorithm, state, step, problem, network, is_last)


def _evaluate(
    algorithm: Algorithm, state: State, step: int, problem: Problem, network: Network, is_last: bool
) -> Evaluation:
    state = algorithm.prepare_evaluation(state, problem, network)
    params, hparams = algorithm.estimate(state), algorithm.hparams(state, problem)
    local = problem.evaluate(params, hparams)
    numbers: dict[str, float] = {}
    further = algorithm.diagnose(state, step - 1, problem, network, is_last=is_last) if step else {}
    for name, value in further.items():
        if name in local:
            raise ValueError(
                f"algorithm={algorithm.name}: diagnose returns {name}, which is a metric of the problem; models are "
                "changed for the evaluation in prepare_evaluation"
            )
        if isinstance(value, Tensor):
            local[name] = value
        else:
            numbers[name] = value
    names = sorted(local)
    columns = torch.stack([local[name].detach().double() for name in names], dim=1)
    table = network.gather(columns).cpu()
    evaluated = algorithm.evaluated_nodes(problem)
    if evaluated is not None:
        table[np.setdiff1d(np.arange(len(table)), evaluated)] = torch.nan
    if isinstance(network.graph, Byzantine):
        table[network.graph.attackers] = torch.nan
    per_node = {name: table[:, i] for i, name in enumerate(names)}
    sizes = problem.split_sizes()
    for name, values in per_node.items():
        numbers[name] = float(values.nanmean())
        if name.endswith("/accuracy"):
            split = sizes.get(name.removesuffix("/accuracy"))
            numbers |= spread(name, values, None if split is None else torch.from_numpy(split).to(values))
            numbers[f"{name}_p10"] = float(values.nanquantile(0.1))
            numbers[f"{name}_bottom_decile"] = bottom_decile(values)
        if name.endswith(("/loss", "/distance", "/grad_norm")):
            numbers[f"{name}_worst"] = float(values.nan_to_num(-torch.inf, torch.inf).max())
    numbers["consensus_distance"] = consensus_distance(params, network)
    numbers |= traffic(network) | oracle_calls(problem, network)
    evaluation = Evaluation(numbers, per_node, _iterate_rms(params, hparams, network))
    network.check()
    return evaluation


def _iterate_rms(params: Tensor, hparams: Tensor, network: Network) -> dict[str, float]:
    rows = {"the root mean square of the parameters": params, "the root mean square of the hyperparameters": hparams}
    rows = {name: iterate for name, iterate in rows.items() if iterate.shape[1]}
    squares = [
        torch.linalg.vector_norm(iterate, dim=1).double().square() / iterate.shape[1] for iterate in rows.values()
    ]
    return dict(zip(rows, network.mean(torch.stack(squares, dim=1)).sqrt().tolist(), strict=True))


def spread(name: str, values: Tensor, sizes: Tensor | None) -> dict[str, float]:
    """Smallest value, largest value and population standard deviation over the nodes; NaN values are left out.

    Args:
        name: the name of the metric.
        values: the value at every node, [M].
        sizes: the number of samples behind every value, [M]; if given, the mean weighted with it is added as
            ``..._weighted``.
    """
    known = ~values.isnan()
    if not known.any():
        return {}
    some = values[known]
    numbers = {"min": float(some.min()), "max": float(some.max()), "std": float(some.std(correction=0))}
    if sizes is not None:
        numbers["weighted"] = float((some * sizes[known]).sum() / sizes[known].sum())
    return {f"{name}_{key}": value for key, value in numbers.items()}


def bottom_decile(values: Tensor) -> float:
    """The n/10-th smallest of n values that are not NaN: the best of the worst tenth, or the worst where n < 20.

    Without interpolation, as Terashita and Hara (arXiv 2210.02129) report accuracies over nodes.
    """
    known = values[~values.isnan()].sort().values
    return float(known[max(len(known) // 10 - 1, 0)]) if len(known) else float("nan")


def traffic(network: Network) -> dict[str, float]:
    """The ledger's totals under their metric names; every process must call it."""
    ledger = network.ledger
    wire_bytes, evaluation_bytes = network.wire_totals()
    numbers: dict[str, float] = {
        "comm/bytes": ledger.bytes,
        "comm/messages": ledger.messages,
        "comm/wire_bytes": wire_bytes,
        "comm/evaluation_bytes": evaluation_bytes,
        **simulated_time(network),
    }
    for phase, counts in ledger.phases.items():
        numbers[f"comm/bytes_{phase}"] = counts.bytes
    return numbers


def oracle_calls(problem: Problem, network: Network) -> dict[str, float]:
    """What has been asked of the problem, mean over all nodes, under the metric names; every process must call it."""
    gradients, hessian_products, samples = (count / network.num_nodes for count in network.totals(problem.calls.counts))
    return {"oracle/gradients": gradients, "oracle/hessian_products": hessian_products, "oracle/samples": samples}


def simulated_time(network: Network) -> dict[str, float]:
    """Simulated seconds so far: of the local clocks, where there are some, and else of the rounds on equal links."""
    times = network.times
    if times is None:
        return {"time/sim_s": network.ledger.link_time_s}
    numbers = {"time/sim_s": times.sim_s, "time/sim_mean_s": times.sim_mean_s, "time/idle_share": times.idle_share}
    if isinstance(times, EventTimes):
        numbers |= {"staleness/mean": times.staleness_mean, "staleness/max": float(times.staleness_max)}
    return numbers


_SMALL_WEIGHT = 1e-3  # the mean over all nodes is 1


def require_finite(state: State, step: int, last_finite_step: int, nodes: range) -> None:
    """Stops a run that has diverged.

    Raises:
        FloatingPointError: naming the state, the node and the step.
    """
    for name, rows in state.items():
        if torch.isfinite(rows.sum()):
            continue
        finite = torch.isfinite(rows.reshape(len(rows), -1)).all(dim=1)
        if bool(finite.all()):
            continue
        node = nodes[int((~finite).nonzero()[0])]
        raise FloatingPointError(
            f"NaN or infinity in {name} of node {node} after step {step} (all was finite after step "
            f"{last_finite_step}); {_advice(state, nodes)}"
        )


def _advice(state: State, nodes: range) -> str:
    """What helps against divergence: with very unequal push-sum weights, not only a smaller rate."""
    usual = "a smaller learning rate or step size usually helps"
    weights = next((rows for name, rows in state.items() if name.endswith("push_sum_weight")), None)
    if weights is None or not bool(torch.isfinite(weights).all()):
        return usual
    smallest = float(weights.min())
    if smallest > _SMALL_WEIGHT:
        return usual
    return (
        f"the push-sum weight of node {nodes[int(weights.argmin())]} is {smallest:.3g}, and its steps are longer by "
        "1 / weight: the graph sends it too little, another graph or other graph.weights help"
    )
