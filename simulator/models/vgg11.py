"""VGG-11 for small colour images; 9,750,922 parameters on 3x32x32 and 10 classes.

**Source.** K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR
2015, configuration A; with two hidden layers of 512 as in T. Vogels, H. Hendrikx and M. Jaggi, NeurIPS 2022 (arXiv
2206.03093).
**Departures.** The first linear layer adapts to other image sizes from 32x32 on.
"""

import math

from torch import nn

from simulator.checks import require_within

CONVOLUTIONS = (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None)
"""Output channels of the 3x3 convolutions, each followed by ReLU; None is 2x2 max-pooling."""
HIDDEN = 512


class VGG11(nn.Sequential):
    """Eight convolutions without batch normalisation, then dropout, Linear(512), ReLU twice, and Linear.

    Convolutions start from N(0, 2 / (9 * output channels)) with biases of 0, linear layers as PyTorch has them.

    Args:
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.
        dropout: rate of both dropout layers, in [0, 1); off in evaluations.

    Raises:
        ValueError: when the input is not an image of at least 32x32 pixels, or for another rate.
    """

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int, dropout: float) -> None:
        if len(input_shape) != 3 or min(input_shape[1:]) < 32:
            raise ValueError(
                "model vgg11: takes images (channels, height, width) of at least 32x32 pixels and the dataset's "
                f"samples have shape {tuple(input_shape)}"
            )
        require_within("model.dropout", dropout, "[0, 1)")
        layers: list[nn.Module] = []
        channels, height, width = input_shape
        for width_of_layer in CONVOLUTIONS:
            if width_of_layer is None:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
                continue
            convolution = nn.Conv2d(channels, width_of_layer, 3, padding=1)
            nn.init.normal_(convolution.weight, std=math.sqrt(2 / (9 * width_of_layer)))
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            layers += [convolution, nn.ReLU()]
            channels = width_of_layer
        num_features = channels * height * width
        layers.append(nn.Flatten())
        for num_inputs in (num_features, HIDDEN):
            layers += [nn.Dropout(dropout), nn.Linear(num_inputs, HIDDEN), nn.ReLU()]
        super().__init__(*layers, nn.Linear(HIDDEN, num_classes))
