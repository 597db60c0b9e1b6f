"""What every algorithm must keep to.

Shapes: N local nodes, D parameters, H hyperparameters.
"""

import json
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from simulator import checkpoint
from simulator.algorithms.base import Algorithm, State
from simulator.arrays import IntArray
from simulator.graphs.base import Graph
from simulator.network.ledger import Ledger
from simulator.network.mailboxes import MAIL_PREFIX
from simulator.network.network import Network
from simulator.placement import Placement
from simulator.problems.base import BilevelProblem, Setting
from simulator.simulation import Simulation
from simulator.testing import placements
from simulator.testing.cases import GRAPHS, small_settings, with_settings
from simulator.testing.globals import global_generators_unmoved
from simulator.testing.states import check_shapes
from simulator.timing.lognormal import Lognormal

NUM_STEPS = 10
STOPS = (3, 4, 5, 8)
"""Steps after which a run is stopped and resumed: within, at the end of, and after an outer step of four steps."""


def check_algorithm(*overrides: str, minimizes: bool = True, processes: tuple[int, ...] = (1, 2, 3)) -> None:
    """Checks an algorithm on small problems.

    Problem, graph, data and model are small ones that it accepts, unless the overrides choose them.

    Args:
        overrides: as on the command line, for example ``algorithm=my_algorithm`` and
            ``hydra.searchpath=[file:///home/me/conf]``.
        minimizes: whether all nodes must reach the common minimizer of simple quadratics with these settings; asked
            only of algorithms that are neither personalized nor bilevel.
        processes: numbers of processes, beginning with 1, on which the results must be the same.

    Raises:
        AssertionError: naming the property that does not hold.
        ValueError: when it refuses every small problem or graph.
    """
    settings = small_settings(*overrides)
    _PLAIN_RUNS.clear()  # a class may have been changed since
    for check in ALGORITHM_CHECKS:
        check(settings)
    algorithm = Simulation.build(settings).algorithm
    if minimizes and not algorithm.personalizes and not algorithm.needs_bilevel:
        check_minimizer(*overrides)
    if len(processes) > 1:
        check_placements(settings, processes)


def check_state(settings: Mapping[str, Any]) -> None:
    """The state has the keys and shapes of the docstring, one row per node, in the dtype of the configuration."""
    for dtype in ("float32", "float64"):
        simulation = Simulation.build({**settings, "dtype": dtype})
        problem, num_nodes = simulation.problem, settings["num_nodes"]
        known = {"N": num_nodes, "M": num_nodes, "D": problem.num_params, "H": problem.num_hparams}
        state = simulation.init()
        for step in range(NUM_STEPS + 1):
            check_shapes(state, type(simulation.algorithm), known)
            for key, rows in state.items():
                if key.startswith(MAIL_PREFIX):
                    continue
                expected = 1 if key.startswith(checkpoint.HUB_PREFIX) else num_nodes
                assert len(rows) == expected, f"step {step}: {key} has {len(rows)} rows, not {expected}"
                assert rows.dtype == getattr(torch, dtype), f"step {step}: {key} is {rows.dtype} in a {dtype} run"
                assert rows.device == simulation.network.device, f"step {step}: {key} is on {rows.device}"
            estimate = simulation.estimate(state)
            assert estimate.shape == (num_nodes, problem.num_params), "estimate is not [N, D]"
            assert estimate.dtype == getattr(torch, dtype), f"estimate is {estimate.dtype} in a {dtype} run"
            if step < NUM_STEPS:
                state = simulation.step(state, step)


def check_reproducibility(settings: Mapping[str, Any]) -> None:
    """The same configuration gives the same bits, whatever the global random generators are; another seed, others."""
    expected, _ = _plain_run(settings)
    random.seed(2)
    np.random.seed(2)
    torch.manual_seed(2)
    with global_generators_unmoved():
        simulation = Simulation.build(settings)
        found = simulation.run(simulation.init(), 0, NUM_STEPS)
    _assert_same_bits(found, expected, "the second run differs")
    other = Simulation.build({**with_settings(settings, "graph", seed=1), "seed": 1})
    estimate = other.estimate(other.run(other.init(), 0, NUM_STEPS))
    assert not torch.equal(estimate, simulation.estimate(found)), "another seed gives the same result"


def check_resuming(settings: Mapping[str, Any]) -> None:
    """A run that is saved and resumed gives the bits and the traffic of one that was not; saving changes nothing."""
    expected, expected_traffic = _plain_run(settings)
    saved = Simulation.build(settings)
    with tempfile.TemporaryDirectory() as folder:

        def save(state: State, done: int) -> None:
            if done in STOPS:
                meta = {"ledger": saved.network.ledger.state_dict()}
                checkpoint.save(Path(folder, str(done)), done, state, meta, saved.network)

        _assert_same_bits(saved.run(saved.init(), 0, NUM_STEPS, save), expected, "saved on the way")
        for stop in STOPS:
            found = checkpoint.find(Path(folder, str(stop)))
            assert found is not None
            again = Simulation.build(settings)
            again.network.ledger.load_state_dict(found.meta["ledger"])
            resumed = again.run(found.load_rows(again.network.nodes), stop, NUM_STEPS)
            _assert_same_bits(resumed, expected, f"resumed after {stop} steps")
            assert traffic(again.network.ledger) == expected_traffic, f"resumed after {stop} steps: traffic"


def check_ownership(settings: Mapping[str, Any]) -> None:
    """A step needs nothing of the states before the one it is given, and no state is part of the problem."""
    expected, _ = _plain_run(settings)
    spoiled = Simulation.build(settings)
    state = spoiled.init()
    start = {key: rows.clone() for key, rows in state.items()}
    for step in range(NUM_STEPS):
        old = list(state.values())
        state = spoiled.step(state, step)
        kept = {rows.untyped_storage().data_ptr() for rows in state.values()}
        _spoil(rows for rows in old if rows.untyped_storage().data_ptr() not in kept)
    _assert_same_bits(state, expected, "tensors of a state that a step had consumed are used later")
    _spoil(state.values())
    _assert_same_bits(spoiled.init(), start, "tensors of a state are shared with the problem or the algorithm")


def check_evaluation(settings: Mapping[str, Any]) -> None:
    """Evaluating gives finite losses, and changes neither the trajectory nor the traffic."""
    expected, expected_traffic = _plain_run(settings)
    watched = Simulation.build(settings)

    def look(state: State, done: int) -> None:
        loss = watched.evaluate(state, done).numbers.get("train/loss", 0.0)
        assert np.isfinite(loss), f"step {done}: train/loss is {loss}"

    _assert_same_bits(watched.run(watched.init(), 0, NUM_STEPS, look), expected, "evaluated after every step")
    assert traffic(watched.network.ledger) == expected_traffic, "evaluations change the traffic"


def _plain_run(settings: Mapping[str, Any]) -> tuple[State, tuple[Any, ...]]:
    """The state and the traffic at the end of a run that only steps; the checks of one configuration share it."""
    key = json.dumps(settings, sort_keys=True, default=str)
    if key not in _PLAIN_RUNS:
        _PLAIN_RUNS.clear()
        simulation = Simulation.build(settings)
        state = simulation.run(simulation.init(), 0, NUM_STEPS)
        _PLAIN_RUNS[key] = state, traffic(simulation.network.ledger)
    return _PLAIN_RUNS[key]


_PLAIN_RUNS: dict[str, tuple[State, tuple[Any, ...]]] = {}
"""The last of these runs, by its configuration."""


def check_agreement(settings: Mapping[str, Any]) -> None:
    """Nodes that agree stay as they are while every derivative is zero, on the graph of the configuration."""
    simulation = Simulation.build(settings)
    check_agreement_on(simulation.components.graph, simulation.algorithm)


def check_agreement_on(graph: Graph, algorithm: Algorithm) -> None:
    """Nodes that agree stay as they are while every derivative is zero.

    Algorithms with ``keeps_agreement = False`` need only keep the mean. Those that need data are left out.
    """
    problem = Flat(graph.num_nodes)
    try:
        algorithm.check_problem(problem)
    except ValueError:
        return
    timing = (
        Lognormal(num_nodes=graph.num_nodes, step_s=1.0, sigma=0.5, latency_s=0.5) if algorithm.asynchronous else None
    )
    network = Network(
        *(graph, Placement(graph.num_nodes), torch.device("cpu")), timing=timing, asynchronous=algorithm.asynchronous
    )
    state = algorithm.init(problem, network)
    for step in range(NUM_STEPS):
        state = algorithm.step(state, step, problem, network)
    where = f"on {graph.description}"
    start = problem.init_params()
    if algorithm.keeps_agreement:
        _assert_close(algorithm.estimate(state), start, 1e-12, f"nodes that agree move {where}")
    else:
        _assert_close(state["params"].mean(dim=0), start[0], 1e-12, f"the mean of the nodes moves {where}")
    _assert_close(algorithm.hparams(state, problem), problem.init_hparams(), 1e-12, f"hyperparameters move {where}")


ALGORITHM_CHECKS: tuple[Callable[[Mapping[str, Any]], None], ...] = (
    *(check_state, check_reproducibility, check_resuming, check_ownership, check_evaluation, check_agreement),
)
"""Each takes the settings of a small run."""


def check_minimizer(
    *overrides: str, num_steps: int = 400, tolerance: float = 1e-10, graphs: tuple[str, ...] = GRAPHS
) -> None:
    """All nodes reach the minimizer of quadratics that they share, with curvatures from 1 to 4.

    With a learning rate of 0.1 the slowest direction shrinks by 0.9 a step: 400 steps leave 1e-10 of it.

    Raises:
        AssertionError: with the distance and the graph.
        ValueError: when the algorithm refuses the problem.
    """
    fixed = ("problem=quadratic", "problem.heterogeneity=0", "problem.condition=4")
    settings = small_settings(*(word for word in overrides if not word.startswith("problem")), *fixed, graphs=graphs)
    simulation = Simulation.build(settings)
    found = simulation.estimate(simulation.run(simulation.init(), 0, num_steps))
    hessian, linear = (getattr(simulation.problem, name).mean(dim=0) for name in ("hessian", "linear"))
    where = f"after {num_steps} steps on {simulation.components.graph.description}: not at the minimizer"
    _assert_close(found, torch.linalg.solve(hessian, linear).expand_as(found), tolerance, where)


def check_placements(settings: Mapping[str, Any], processes: tuple[int, ...] = (1, 2, 3)) -> None:
    """Every number of processes gives the same traffic, and the same state but for the order of sums."""
    with tempfile.TemporaryDirectory() as folder:
        placements.start({"case": settings}, Path(folder), num_steps=NUM_STEPS, world_sizes=processes)
        placements.compare("case", Path(folder), world_sizes=processes)


class Flat(BilevelProblem):
    """Nothing to learn: all nodes start at one random row, and every derivative is zero."""

    uses_data = False
    steps_apart = True
    num_params, num_hparams = 7, 2

    def __init__(self, num_nodes: int) -> None:
        self.num_nodes = num_nodes

    def setup(self, setting: Setting) -> None:
        """There is nothing to set up."""

    def part(self, positions: IntArray) -> Self:
        return type(self)(len(positions))

    def init_params(self) -> Tensor:
        row = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        return row.expand(self.num_nodes, -1).clone()

    def init_hparams(self) -> Tensor:
        return torch.full((self.num_nodes, 2), 0.5, dtype=torch.float64)

    def add_grad_(self, out: Tensor, params: Tensor, hparams: Tensor, step: int | None, alpha: float) -> None:
        pass

    def add_grad_at_(self, out: Tensor, params: Tensor, hparams: Tensor, steps: IntArray, alpha: float) -> None:
        pass

    def inner_grads(self, params: Tensor, hparams: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(params), torch.zeros_like(hparams)

    def outer_grads(self, params: Tensor, hparams: Tensor, step: int | None = None) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(params), torch.zeros_like(hparams)

    def second_order(self, params: Tensor, hparams: Tensor, vector: Tensor, step: int | None) -> tuple[Tensor, Tensor]:
        return vector.clone(), torch.zeros_like(hparams)

    def evaluate(self, params: Tensor, hparams: Tensor) -> dict[str, Tensor]:
        return {}


def traffic(ledger: Ledger) -> tuple[Any, ...]:
    """All counts of a ledger, comparable."""
    return (
        ledger.bytes,
        ledger.messages,
        ledger.link_time_s,
        ledger.node_sent.tolist(),
        {key: value.tolist() for key, value in ledger.per_edge().items()},
    )


def sorted_mail(state: State) -> State:
    """The state with its messages in flight in the order of (source, step), without free rows."""
    state = checkpoint.without_free_mail(state)
    if f"{MAIL_PREFIX}source" not in state:
        return state
    keys = [state[f"{MAIL_PREFIX}{name}"].cpu().numpy() for name in ("step", "source")]
    order = torch.from_numpy(np.lexsort(keys))
    return {name: rows[order] if name.startswith(MAIL_PREFIX) else rows for name, rows in state.items()}


def _spoil(tensors: Any) -> None:
    """Overwrites tensors with NaN, and those of integers with -7."""
    for tensor in tensors:
        tensor.fill_(torch.nan if tensor.is_floating_point() else -7)


def _assert_same_bits(found: State, expected: State, message: str) -> None:
    assert found.keys() == expected.keys(), f"{message}: other keys"
    found, expected = sorted_mail(found), sorted_mail(expected)
    for key, rows in expected.items():
        error = (found[key] - rows).abs().max() if rows.numel() else 0.0
        assert torch.equal(found[key], rows), f"{message}: {key} is apart by {float(error):.3g}"


def _assert_close(found: Tensor, expected: Tensor, tolerance: float, message: str) -> None:
    error = float((found - expected).abs().max())
    assert error <= tolerance, f"{message}: apart by {error:.3g}"
