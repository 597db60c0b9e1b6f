"""A step of an algorithm while nodes leave and come back (``faults=churn``).

What happens to the share of a node is defined in :mod:`simulator.faults.churn`. Hand-overs and returns are messages
along edges of the round, before the step. Rows of nodes that are away are put back after it: these nodes stand still.
"""

import numpy as np
import torch
from torch import Tensor

from simulator.algorithms.base import Algorithm, State
from simulator.arrays import IntArray
from simulator.faults.churn import Churn
from simulator.graphs.base import Edges
from simulator.network.link_plans import LinkPlan
from simulator.network.network import Network
from simulator.network.row_sums import add_rows
from simulator.problems.base import Problem
from simulator.uploads import upload, upload_like


def step_with_churn(
    algorithm: Algorithm, state: State, step: int, problem: Problem, network: Network, churn: Churn
) -> State:
    """The state after ``step`` of the algorithm among the nodes that are there."""
    with network.phase("churn"):
        if churn.mass == "hands_over":
            _hand_over_(state, step, network, churn)
        if churn.returns_with == "neighbour":
            _come_back_(state, step, network, churn)
    nodes = network.nodes
    away = upload(np.flatnonzero(churn.is_away(step)[nodes.start : nodes.stop]), network.device)
    kept = {name: rows[away] for name, rows in state.items()}
    state = algorithm.step(state, step, problem, network)
    for name, rows in kept.items():
        state[name][away] = rows
    return state


def _hand_over_(state: State, step: int, network: Network, churn: Churn) -> None:
    """Every node that leaves sends its share, which its heir adds to its own."""
    leaving, heir = churn.heirs(step)
    if not leaving.size:
        return
    shares = _shares(state)
    arrived, target = _deliver(shares, leaving, heir, step, network)
    _put_(state, add_rows(shares, (target, arrived)))


def _come_back_(state: State, step: int, network: Network, churn: Churn) -> None:
    """Every node that is back begins with what a neighbour sends."""
    back, donor = churn.donors(step)
    if not back.size:
        return
    shares = _shares(state)
    if churn.mass == "hands_over":
        nodes = network.nodes
        asked = np.bincount(donor, minlength=network.num_nodes)[nodes.start : nodes.stop]
        parts = upload_like(1.0 / (1.0 + asked), shares)
        shares *= parts[:, None]
        arrived, positions = _deliver(shares, donor, back, step, network)
        shares[upload(positions, shares.device)] = arrived
    else:
        arrived, positions = _deliver(shares, donor, back, step, network)
        target = upload(positions, shares.device)
        weight = shares[target, -1:]
        shares[target] = arrived * (weight / arrived[:, -1:])
        shares[target, -1:] = weight
    _put_(state, shares)


def _shares(state: State) -> Tensor:
    """(x_i, w_i) as one row per node, [N, D + 1]; w_i = 1 without push-sum."""
    params = state["params"]
    weight = state.get("push_sum_weight")
    return torch.cat([params, (params.new_ones(len(params)) if weight is None else weight)[:, None]], dim=1)


def _put_(state: State, shares: Tensor) -> None:
    state["params"] = shares[:, :-1].contiguous()
    if "push_sum_weight" in state:
        state["push_sum_weight"] = shares[:, -1].contiguous()


def _deliver(
    shares: Tensor, source: IntArray, target: IntArray, step: int, network: Network
) -> tuple[Tensor, IntArray]:
    """Sends the rows of ``source`` to ``target``; returns what arrives here and which local rows it is for."""
    plan = LinkPlan.build(Edges.build(source, target, 1.0), network.placement)
    start = network.nodes.start
    leaving = upload(plan.out_source - start, shares.device)
    return network.deliver(shares[leaving], step, plan), plan.in_target - start
