"""The convolutional network of the hypergradient experiments on digits; 13,750 parameters on 1x28x28 and 10 classes.

**Source.** N. Terashita and S. Hara, arXiv 2210.02129 (code hitachi-rd-cv/pdbo-hgp). **Departures.** The linear layer
adapts to other image sizes from 16x16 on.
"""

from torch import nn

from simulator.models.convolution import two_convolutions


class CnnMnist(nn.Sequential):
    """Conv(20, k5), ReLU, MaxPool2, Conv(20, k5), ReLU, MaxPool2, Linear.

    Args:
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.

    Raises:
        ValueError: when the input is not an image of at least 16x16 pixels.
    """

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int) -> None:
        layers, num_features = two_convolutions("cnn_mnist", input_shape, (20, 20))
        super().__init__(*layers, nn.Linear(num_features, num_classes))
