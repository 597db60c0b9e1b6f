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
from simulator.problems.base import Problem


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
    away = torch.from_numpy(np.flatnonzero(churn.is_away(step)[nodes.start : nodes.stop]))
    kept = {name: rows[away.to(rows.device)].clone() for name, rows in state.items()}
    state = algorithm.step(state, step, problem, network)
    for name, rows in kept.items():
        state[name][away.to(rows.device)] = rows
    return state


def _hand_over_(state: State, step: int, network: Network, churn: Churn) -> None:
    """Every node that leaves sends its share, which its heir adds to its own."""
    leaving, heir = churn.heirs(step)
    if not leaving.size:
        return
    shares = _shares(state)
    arrived, target = _deliver(shares, leaving, heir, step, network)
    shares.index_add_(0, target, arrived)
    _put_(state, shares)


def _come_back_(state: State, step: int, network: Network, churn: Churn) -> None:
    """Every node that is back begins with what a neighbour sends."""
    back, donor = churn.donors(step)
    if not back.size:
        return
    shares = _shares(state)
    if churn.mass == "hands_over":
        nodes = network.nodes
        asked = np.bincount(donor, minlength=network.num_nodes)[nodes.start : nodes.stop]
        parts = torch.from_numpy(1.0 / (1.0 + asked)).to(shares)
        shares *= parts[:, None]
        arrived, target = _deliver(shares, donor, back, step, network)
        shares[target] = arrived
    else:
        arrived, target = _deliver(shares, donor, back, step, network)
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


def _deliver(shares: Tensor, source: IntArray, target: IntArray, step: int, network: Network) -> tuple[Tensor, Tensor]:
    """Sends the rows of ``source`` to ``target``; returns what arrives here and the local rows that it is for."""
    plan = LinkPlan.build(Edges.build(source, target, 1.0), network.placement)
    start = network.nodes.start
    leaving = torch.from_numpy(plan.out_source - start).to(shares.device)
    arrived = network.deliver(shares[leaving], step, plan)
    return arrived, torch.from_numpy(plan.in_target - start).to(shares.device)
