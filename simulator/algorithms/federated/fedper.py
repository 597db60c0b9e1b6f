"""FedPer: nodes average the first layers and keep their own last ones.

Update equations: see partial_averaging.py; shared are all layers but the last private_layers.
Needs: graph=hub or doubly stochastic W; problem=classification with a model of more than private_layers layers.
Sends: with S the parameters of the shared layers, S numbers up and S numbers down for every node but the hub, or S per
edge. The private layers never leave their node.
Source: Arivazhagan, Aggarwal, Singh and Choudhary, "Federated Learning with Personalization Layers", arXiv 1912.00818,
algorithms 1 and 2.
Departures: all nodes start from the same private layers, and take part in every round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from simulator.algorithms.federated.partial_averaging import PartialAveraging, require_some_layers


@dataclass(frozen=True, kw_only=True)
class FedPer(PartialAveraging):
    """Federated learning with personalization layers.

    Args:
        lr, lr_schedule, local_steps, momentum: of the local training.
        private_layers: last layers that stay at their node (K_P in the paper), at least 1.
    """

    private_layers: int

    def shared_columns(self, layer_sizes: Sequence[int]) -> slice:
        require_some_layers("private_layers", self.private_layers, layer_sizes)
        return slice(0, sum(layer_sizes[: -self.private_layers]))
