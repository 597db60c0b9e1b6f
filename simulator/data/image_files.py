"""One image file as 8-bit pixels."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PIL_MODES = {1: "L", 3: "RGB"}
"""Pillow's name for an image with so many channels."""


def read_image(file: Path, channels: int, size: int | None) -> npt.NDArray[np.uint8]:
    """Pixels of one image, shape [height, width, channels]; 16-bit grey values are scaled to 8 bits.

    Args:
        channels: 1 (grey) or 3 (colour); the image is converted.
        size: height and width that it is resized to (bilinear); None keeps its size.

    Raises:
        ValueError: naming the file, when it is damaged or its pixels have no known range.
    """
    from PIL import Image

    try:
        with Image.open(file) as opened:
            image = _as_bytes(opened).convert(PIL_MODES[channels])
        if size is not None and image.size != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
    except _UnknownRangeError as error:
        raise ValueError(f"dataset image_folder: {file} {error}") from error
    except Exception as error:  # Pillow raises whatever its decoders do: OSError, SyntaxError, struct.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"dataset image_folder: {file} cannot be read as an image ({reason})") from error
    return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, channels)


class _UnknownRangeError(Exception):
    """An image whose values do not say what black and white are."""


def _as_bytes(image: Any) -> Any:
    """The image itself, or with 8 bits a pixel where it has 16.

    Pillow would cut values above 255 off. It opens grey PNGs of 16 bits as "I;16", older versions as "I".
    """
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return Image.fromarray(np.rint(np.asarray(image) / 257).clip(0, 255).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise _UnknownRangeError(
            f"has pixels that are {kind} (mode {image.mode}), whose range is not known; convert it to 8 or 16 bits"
        )
    return image
