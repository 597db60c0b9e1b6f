"""Index arrays of a plan, copied to the device once."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from simulator.uploads import upload


class DeviceIndex:
    """An index array and its tensors, one per device, each made at its first use.

    Args:
        array: int64, any shape.
    """

    def __init__(self, array: npt.NDArray[np.int64]) -> None:
        self._array = array
        self._tensors: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device) -> Tensor:
        """The array as a tensor on ``device``; always the same tensor, so it must not be changed."""
        tensor = self._tensors.get(device)
        if tensor is None:
            tensor = self._tensors[device] = upload(self._array, device)
        return tensor
