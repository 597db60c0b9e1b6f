"""What makes the host wait for a device: counted on the pretended device, told by PyTorch on a GPU."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from simulator.testing import pretended_device
from simulator.testing.pretended_device import BLOCKING, UPLOAD

_MESSAGE = "called a synchronizing CUDA operation"


def usable(device: torch.device) -> AbstractContextManager[object]:
    """A context in which ``device`` can be used: that of the pretended device; others need none.

    A GPU must not be used inside that of the pretended device, which has pinned memory of its own.
    """
    return pretended_device.in_use() if device.type == pretended_device.NAME else nullcontext()


@dataclass
class Waits:
    """What happened inside a :func:`watched` block.

    Attributes:
        blocking: number of copies and reads that made the host wait.
        uploads: number of copies to the device without waiting; 0 on a GPU, which does not count them.
        lines: number of waits by file and line.
    """

    blocking: int = 0
    uploads: int = 0
    lines: dict[str, int] = field(default_factory=dict)


@contextmanager
def watched(device: torch.device, *, refuses: bool = False) -> Iterator[Waits]:
    """Counts the waits inside the block; they are known after it. On the CPU there are none.

    Args:
        refuses: on a GPU, the first wait is an error that ends the block.
    """
    waits = Waits()
    if device.type == "cuda":
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("error" if refuses else "warn")
            try:
                yield waits
            finally:
                torch.cuda.set_sync_debug_mode("default")
        lines = Counter(f"{each.filename}:{each.lineno}" for each in caught if _MESSAGE in str(each.message))
        waits.lines, waits.blocking = dict(lines.most_common()), lines.total()
        return
    if device.type != pretended_device.NAME:
        yield waits
        return
    with pretended_device.in_use() as counts:
        yield waits
    waits.lines = counts.lines(*BLOCKING)
    waits.blocking, waits.uploads = counts.total(*BLOCKING), counts.total(UPLOAD)
