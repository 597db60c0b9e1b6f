"""The body that the small convolutional networks share: two times a 5x5 convolution, ReLU and 2x2 max-pooling."""

from torch import nn

KERNEL_SIZE = 5
MIN_IMAGE_SIZE = 16


def two_convolutions(
    model: str, input_shape: tuple[int, ...], channels: tuple[int, int]
) -> tuple[list[nn.Module], int]:
    """Builds Conv(k5), ReLU, MaxPool2, Conv(k5), ReLU, MaxPool2, Flatten; no padding, stride 1.

    Args:
        model: name of the model, for the error message.
        input_shape: (channels, height, width) of one image.
        channels: output channels of the two convolutions.

    Returns:
        The layers, and the number of features that they give.

    Raises:
        ValueError: when the input is not an image, or too small for the layers.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < MIN_IMAGE_SIZE:
        raise ValueError(
            f"model {model}: takes images (channels, height, width) of at least {MIN_IMAGE_SIZE}x{MIN_IMAGE_SIZE} "
            f"pixels and the dataset's samples have shape {tuple(input_shape)}"
        )
    layers: list[nn.Module] = []
    num_inputs = input_shape[0]
    for num_outputs in channels:
        layers += [nn.Conv2d(num_inputs, num_outputs, KERNEL_SIZE), nn.ReLU(), nn.MaxPool2d(2)]
        num_inputs = num_outputs
    height, width = (_pooled(_pooled(size)) for size in input_shape[1:])
    return [*layers, nn.Flatten()], num_inputs * height * width


def _pooled(size: int) -> int:
    return (size - KERNEL_SIZE + 1) // 2
