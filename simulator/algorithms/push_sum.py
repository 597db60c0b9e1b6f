"""Rounds of push-sum on entries of a state, with the messages that are late.

Where messages may be late (``faults=message_delay``), a state has for every entry ``name`` that is pushed also
``in_flight/name`` [N, L, ...]: the mailboxes of the nodes, L being the largest delay. Entry [:, d] holds the shares
that arrive d rounds after the next one. So what is in flight is in the checkpoint, at the node that will get it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.network.network import Network
from simulator.padding import empty_as

_PREFIX = "in_flight/"


def with_mailboxes(state: State, names: Sequence[str], network: Network) -> State:
    """``state`` with empty mailboxes for the entries ``names``; the same without delays."""
    empty = network.nothing_in_flight([state[name] for name in names])
    return {**state, **(dict(zip(map(_PREFIX.__add__, names), empty, strict=True)) if empty else {})}


def push(state: State, names: Sequence[str], network: Network, round_index: int) -> State:
    """``state`` after one round on the entries ``names``, in one message per edge; see :meth:`Network.push`."""
    boxes = [_PREFIX + name for name in names if _PREFIX + name in state]
    rows, left = network.push([state[name] for name in names], round_index, [state[box] for box in boxes])
    return {**state, **dict(zip(names, rows, strict=True)), **dict(zip(boxes, left, strict=True))}


def debias(rows: Tensor, weight: Tensor) -> Tensor:
    """z_i = x_i / w_i of ``rows`` [N, ...] and push-sum weights [N], with the padding of the rows."""
    return torch.div(rows, weight.view(-1, *(1,) * (rows.dim() - 1)), out=empty_as(rows))


def with_in_flight(state: State, name: str) -> Tensor:
    """Entry ``name`` plus all of it that is on the way to the node, in the shape of the entry."""
    box = state.get(_PREFIX + name)
    return state[name] if box is None else state[name] + box.sum(dim=1)
