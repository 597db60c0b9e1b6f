"""Three small convolutions and three linear layers; 45,896 parameters on 1x28x28 and 10 classes with 7 kernels.

**Source.** The network for MNIST of the pFedHN baseline of Flower (https://github.com/flwrlabs/flower/pull/2377).
**Departures.** The first linear layer adapts to other image sizes from 18x18 on.
"""

from torch import nn

from simulator.checks import require_at_least

MIN_IMAGE_SIZE = 18


class CnnMnist3(nn.Sequential):
    """Conv(k, k3), ReLU, MaxPool2, Conv(2k, k3), ReLU, MaxPool2, Conv(4k, k3), ReLU, then Linear 120, 84 and logits.

    Args:
        input_shape: (channels, height, width) of one image.
        num_classes: number of logits.
        num_kernels: k, channels of the first convolution.

    Raises:
        ValueError: when the input is not an image of at least 18x18 pixels, or for fewer than 1 kernel.
    """

    def __init__(self, *, input_shape: tuple[int, ...], num_classes: int, num_kernels: int) -> None:
        require_at_least("model.num_kernels", num_kernels, 1)
        if len(input_shape) != 3 or min(input_shape[1:]) < MIN_IMAGE_SIZE:
            raise ValueError(
                f"model cnn_mnist3: takes images (channels, height, width) of at least {MIN_IMAGE_SIZE}x"
                f"{MIN_IMAGE_SIZE} pixels and the dataset's samples have shape {tuple(input_shape)}"
            )
        k = num_kernels
        height, width = (((size - 2) // 2 - 2) // 2 - 2 for size in input_shape[1:])
        super().__init__(
            *(nn.Conv2d(input_shape[0], k, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(k, 2 * k, 3), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(2 * k, 4 * k, 3), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(4 * k * height * width, 120), nn.ReLU()),
            *(nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, num_classes)),
        )
