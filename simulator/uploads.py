"""Arrays of the host on their way to the device.

A copy from ordinary memory makes the host wait for the device. One from pinned memory does not, and PyTorch keeps
pinned memory until the device has read it and then uses it again.
"""

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor


def upload(values: npt.NDArray[Any] | Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """``values`` on ``device``, without waiting for it; in their own memory where the device is the CPU.

    Args:
        values: of the host; they may be changed afterwards, unless the device is the CPU.
        dtype: converted to it before the copy, because a copy that converts would wait.
    """
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    if dtype is not None:
        tensor = tensor.to(dtype)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def upload_like(values: npt.NDArray[Any] | Tensor, like: Tensor) -> Tensor:
    """``values`` in the dtype and on the device of ``like``; see :func:`upload`."""
    return upload(values, like.device, like.dtype)
