"""ResNet-20 for small images; 272,474 parameters on 3 channels and 10 classes.

**Source.** K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2,
with 1x1 convolutions where the shape changes.
**Departures.** Batch normalisation uses the statistics of the batch at hand and keeps none, so that a model is its
parameters and nothing else. Evaluations normalise by the samples that are evaluated together (2,048 of a node), and a
minibatch should not be too small.
"""

import math

from torch import Tensor, nn

WIDTHS = (16, 32, 64)
BLOCKS_PER_WIDTH = 3


def convolution(num_inputs: int, num_outputs: int, size: int, stride: int) -> nn.Conv2d:
    """A convolution without bias that keeps the image's size up to its stride, from N(0, 2 / (size^2 outputs))."""
    layer = nn.Conv2d(num_inputs, num_outputs, size, stride=stride, padding=size // 2, bias=False)
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (size * size * num_outputs)))
    return layer


def normalisation(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation with scale and shift, by the statistics of the batch."""
    return nn.BatchNorm2d(channels, track_running_stats=False)


class Block(nn.Module):
    """Two 3x3 convolutions and a way past them."""

    def __init__(self, num_inputs: int, num_outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            convolution(num_inputs, num_outputs, 3, stride),
            normalisation(num_outputs),
            nn.ReLU(),
            convolution(num_outputs, num_outputs, 3, 1),
            normalisation(num_outputs),
        )
        self.past = nn.Sequential()
        if num_inputs != num_outputs:
            self.past = nn.Sequential(convolution(num_inputs, num_outputs, 1, stride), normalisation(num_outputs))

    def forward(self, x: Tensor) -> Tensor:
        """From [B, inputs, H, W] to [B, outputs, H / stride, W / stride], rounded up."""
        return nn.functional.relu(self.body(x) + self.past(x))


class ResNet20(nn.Sequential):
    """A 3x3 convolution, nine blocks of two, the mean over the image, and Linear.

    Args:
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.

    Raises:
        ValueError: when the input is not an image of at least 8x8 pixels.
    """

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int) -> None:
        if len(input_shape) != 3 or min(input_shape[1:]) < 8:
            raise ValueError(
                "model resnet20: takes images (channels, height, width) of at least 8x8 pixels and the dataset's "
                f"samples have shape {tuple(input_shape)}"
            )
        layers: list[nn.Module] = [convolution(input_shape[0], WIDTHS[0], 3, 1), normalisation(WIDTHS[0]), nn.ReLU()]
        num_inputs = WIDTHS[0]
        for width in WIDTHS:
            for _ in range(BLOCKS_PER_WIDTH):
                layers.append(Block(num_inputs, width, stride=1 if num_inputs == width else 2))
                num_inputs = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(num_inputs, num_classes))
