"""LeNet with wide convolutions; 121,182 parameters on 3x32x32 and 10 classes with 16 kernels.

**Source.** The target network of A. Shamsian et al., "Personalized Federated Learning using Hypernetworks", ICML 2021
(arXiv 2103.04628), after Y. LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998.
**Departures.** The first linear layer adapts to other image sizes from 16x16 on.
"""

from torch import nn

from simulator.checks import require_at_least
from simulator.models.convolution import two_convolutions


class LeNet(nn.Sequential):
    """Conv(k, k5), ReLU, MaxPool2, Conv(2k, k5), ReLU, MaxPool2, Linear(120), ReLU, Linear(84), ReLU, Linear.

    Args:
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.
        num_kernels: k, channels of the first convolution.

    Raises:
        ValueError: when the input is not an image of at least 16x16 pixels, or for fewer than 1 kernel.
    """

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int, num_kernels: int) -> None:
        require_at_least("model.num_kernels", num_kernels, 1)
        layers, num_features = two_convolutions("lenet", input_shape, (num_kernels, 2 * num_kernels))
        super().__init__(
            *layers,
            nn.Linear(num_features, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )
