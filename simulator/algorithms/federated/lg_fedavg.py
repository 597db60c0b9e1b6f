"""LG-FedAvg: nodes keep their own first layers and average the last ones.

Update equations: see partial_averaging.py; shared are the last shared_layers layers.
Needs: graph=hub or doubly stochastic W; problem=classification with a model of more than shared_layers layers.
Sends: with S the parameters of the shared layers, S numbers up and S numbers down for every node but the hub, or S per
edge. The first layers never leave their node.
Source: Liang, Liu, Liu, Allen, Auerbach, Brent, Salakhutdinov and Morency, "Think Locally, Act Globally: Federated
Learning with Local and Global Representations", arXiv 2001.01523, algorithm 1 with supervised local training.
Departures: all nodes start from the same local layers, which are not trained by FedAvg before, and take part in every
round; no further losses on the representations.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.algorithms.federated.partial_averaging import PartialAveraging, require_some_layers


@dataclass(frozen=True, kw_only=True)
class LGFedAvg(PartialAveraging):
    """Local and global representations.

    Args:
        lr, lr_schedule, local_steps, momentum: of the local training.
        shared_layers: last layers that are averaged, at least 1.
    """

    shared_layers: int

    def shared_columns(self, layer_sizes: Sequence[int]) -> slice:
        require_some_layers("shared_layers", self.shared_layers, layer_sizes)
        return slice(sum(layer_sizes[: -self.shared_layers]), sum(layer_sizes))
