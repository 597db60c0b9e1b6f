"""The convolutional network of the personalization experiments; 2,278,334 parameters on 1x28x28 and 62 classes.

**Source.** O. Marfoq et al., "Federated Multi-Task Learning under a Mixture of Distributions", NeurIPS 2021
(omarfoq/FedEM); used by N. Terashita and S. Hara, arXiv 2210.02129. **Departures.** The first linear layer adapts to
other image sizes from 16x16 on.
"""

from torch import nn

from simulator.models.convolution import two_convolutions


class CnnEmnist(nn.Sequential):
    """Conv(32, k5), ReLU, MaxPool2, Conv(64, k5), ReLU, MaxPool2, Linear(2048), ReLU, Linear.

    Args:
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.

    Raises:
        ValueError: when the input is not an image of at least 16x16 pixels.
    """

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int) -> None:
        layers, num_features = two_convolutions("cnn_emnist", input_shape, (32, 64))
        super().__init__(*layers, nn.Linear(num_features, 2048), nn.ReLU(), nn.Linear(2048, num_classes))
