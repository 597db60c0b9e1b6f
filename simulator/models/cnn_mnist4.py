"""Four convolutions and global max pooling; 93,322 parameters on 1 channel and 10 classes, for any image size.

**Source.** A plain network for MNIST, in the size at which D-SGD and DIGing are compared over topologies.
**Departures.** None.
"""

from torch import nn

WIDTHS = (32, 64, 64, 64)


class CnnMnist4(nn.Sequential):
    """Conv(32, k3), ReLU, three times Conv(64, k3), ReLU, the maximum over the image, and Linear; no padding.

    Args:
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.

    Raises:
        ValueError: when the input is not an image of at least 9x9 pixels.
    """

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int) -> None:
        if len(input_shape) != 3 or min(input_shape[1:]) < 9:
            raise ValueError(
                "model cnn_mnist4: takes images (channels, height, width) of at least 9x9 pixels and the dataset's "
                f"samples have shape {tuple(input_shape)}"
            )
        channels, height, width = input_shape
        layers: list[nn.Module] = []
        for num_outputs in WIDTHS:
            layers += [nn.Conv2d(channels, num_outputs, 3), nn.ReLU()]
            channels, height, width = num_outputs, height - 2, width - 2
        super().__init__(*layers, nn.MaxPool2d((height, width)), nn.Flatten(), nn.Linear(channels, num_classes))
