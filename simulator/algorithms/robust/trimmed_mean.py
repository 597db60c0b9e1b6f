"""Decentralized SGD with the trimmed mean or the median of the neighbours in place of their weighted mean.

Update equations, with u_i what the gradient steps of D-SGD make of x_i (see gossip/dsgd.py, for learning rate,
momentum, local steps, both orders and the average for evaluation too), in every column by itself:
    x_i <- mean of what is left of u_i and all u_j that i hears, without the b largest and the b smallest
With n_i numbers in all, b is ``trim``, or the most that leaves something where that is less: (n_i - 1) // 2 (rounded
down). rule=median has that b at all nodes: what is left is the number in the middle, or the mean of the two.
Withstands b attackers among those that a node hears, where honest numbers are not too far apart. With unlike nodes it
does not end at the minimiser of their mean: the extremes that it leaves out may be honest.
State: ``params`` [N, D]; with momentum also ``momentum`` [N, D]; with ema also ``average`` [N, D].
Needs: nothing of the weights, which are not used; any schedule.
Sends: D numbers per edge and step.
Source: trimmed means of neighbours: Sundaram and Gharesifard, "Distributed optimization under adversarial nodes", IEEE
TAC 2019; Fang, Yang and Bajwa, "BRIDGE", IEEE TSIPN 2022; coordinate-wise trimmed means and medians: Yin, Chen,
Ramchandran and Bartlett, ICML 2018 (arXiv 1803.01498). A re-implementation of the published idea.
Departures: the node's own row is one of the numbers and may be left out, as in the experiments of arXiv 2202.01545.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from simulator.algorithms.base import State
from simulator.algorithms.gossip.dsgd import CombinedDescent
from simulator.algorithms.robust.neighbourhoods import neighbourhoods
from simulator.algorithms.weights import Weights
from simulator.checks import require_at_least, require_one_of
from simulator.network.network import Network
from simulator.padding import empty_as
from simulator.uploads import upload


@dataclass(frozen=True, kw_only=True)
class TrimmedMean(CombinedDescent):
    """D-SGD with coordinate-wise trimmed means.

    Args:
        rule: ``trimmed_mean`` or ``median``.
        trim: b of trimmed_mean, at least 0.
        lr, lr_schedule, momentum, order, local_steps, ema: as ``CombinedDescent`` in gossip/dsgd.py.
    """

    weights: ClassVar[Weights] = Weights.ANY
    admits_attackers: ClassVar[bool] = True

    rule: Literal["trimmed_mean", "median"]
    trim: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of("algorithm.rule", self.rule, ("trimmed_mean", "median"))
        require_at_least("algorithm.trim", self.trim, 0)

    def combine(self, rows: Tensor, state: State, step: int, network: Network) -> Tensor:
        inbox = network.exchange((rows,), step)
        (heard,) = inbox.rows
        others = inbox.source != inbox.target
        row, combined = inbox.row[others], empty_as(rows)
        for nodes, messages in neighbourhoods(inbox.target[others], network.nodes):
            at, most = upload(nodes, rows.device), messages.shape[1] // 2
            cut = most if self.rule == "median" else min(self.trim, most)
            values = torch.cat([rows[at][:, None], heard[upload(row[messages], rows.device)]], dim=1)
            if cut:
                values = values.sort(dim=1).values[:, cut : values.shape[1] - cut]
            combined[at] = values.mean(dim=1)
        return combined
