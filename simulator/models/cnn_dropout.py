"""A small convolutional network with dropout; 21,840 parameters on 1x28x28 and 10 classes.

**Source.** The network of PyTorch's MNIST example (github.com/pytorch/examples, before 2019), which many studies of
federated averaging took over. **Departures.** The first linear layer adapts to other image sizes from 16x16 on.
"""

from torch import nn

from simulator.checks import require_within
from simulator.models.convolution import two_convolutions

CHANNELS = (10, 20)
HIDDEN = 50


class CnnDropout(nn.Sequential):
    """Conv(10), MaxPool2, ReLU, Conv(20), dropout of channels, MaxPool2, ReLU, Linear(50), ReLU, dropout, Linear; k5.

    Args:
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.
        dropout: rate of both dropout layers, in [0, 1); off in evaluations.

    Raises:
        ValueError: when the input is not an image of at least 16x16 pixels, or for another rate.
    """

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int, dropout: float) -> None:
        require_within("model.dropout", dropout, "[0, 1)")
        layers, num_features = two_convolutions("cnn_dropout", input_shape, CHANNELS)
        first, relu, pool, second, *_, flatten = layers
        super().__init__(
            *(first, pool, relu),
            *(second, nn.Dropout2d(dropout), nn.MaxPool2d(2), nn.ReLU(), flatten),
            *(nn.Linear(num_features, HIDDEN), nn.ReLU(), nn.Dropout(dropout), nn.Linear(HIDDEN, num_classes)),
        )
