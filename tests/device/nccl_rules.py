"""What NCCL insists on, over gloo: messages and collectives of tensors that the pretended device holds.

Tensors are on the device and contiguous. The messages of a round are one batch with one work for all of them; nobody
sends to itself, nothing is empty, and no two messages of a batch have the same direction and peer. Collectives are
asynchronous, and no wait has a timeout: the watchdog counts the time.
"""

from unittest.mock import patch

import torch
import torch.distributed as dist

from simulator.testing.pretended_device import OnDevice, held
from simulator.watchdog import Watchdog


def require(*tensors):
    for tensor in tensors:
        if not isinstance(tensor, OnDevice):
            raise RuntimeError("No backend type associated with device type cpu")
        if not tensor.is_contiguous():
            raise ValueError("Tensors must be contiguous")


class OneWork:
    """The work of a collective or of a whole batch; what was received is in its tensors when it is done."""

    def __init__(self, works, arriving=()):
        self.works, self.arriving = works, arriving

    def wait(self, timeout=None):
        assert timeout is None, "a wait with a timeout stops the host in every round"
        for work in self.works:
            work.wait()
        for tensor, bytes_ in self.arriving:
            held(tensor).copy_(bytes_)
        return True

    def is_completed(self):
        return all(work.is_completed() for work in self.works)


def watchdog(timeout_s):
    """One that nobody needs, because gloo's own timeouts come first."""
    return Watchdog(timeout_s, abort=lambda: None, give_up=lambda error: None)


def rules():
    """A context in which ``torch.distributed`` looks like NCCL."""
    plain = {name: getattr(dist, name) for name in ("all_reduce", "all_gather", "scatter", "isend", "irecv")}

    def all_reduce(tensor, op=dist.ReduceOp.SUM, *, async_op):
        require(tensor)
        return OneWork([plain["all_reduce"](held(tensor), op=op, async_op=async_op)])

    def all_gather(parts, tensor, *, async_op):
        require(tensor, *parts)
        assert all(part.shape == tensor.shape for part in parts)
        return OneWork([plain["all_gather"]([held(part) for part in parts], held(tensor), async_op=async_op)])

    def scatter(tensor, parts=None, src=0, *, async_op):
        require(tensor, *(parts or []))
        parts = parts and [held(part) for part in parts]
        return OneWork([plain["scatter"](held(tensor), parts, src=src, async_op=async_op)])

    def batch_isend_irecv(operations):
        assert operations, "an empty batch"
        works, arriving, seen = [], [], set()
        for operation in operations:
            require(operation.tensor)
            receives = operation.op is plain["irecv"]
            assert operation.tensor.numel(), "an empty message"
            assert operation.peer != dist.get_rank(), "a message to itself"
            assert (receives, operation.peer) not in seen, "two messages of one pair in a batch"
            seen.add((receives, operation.peer))
            bytes_ = torch.empty_like(held(operation.tensor)) if receives else held(operation.tensor)
            works.append(plain["irecv" if receives else "isend"](bytes_, operation.peer))
            if receives:
                arriving.append((operation.tensor, bytes_))
        return [OneWork(works, arriving)]

    fakes = {"all_reduce": all_reduce, "all_gather": all_gather, "scatter": scatter}
    return patch.multiple(dist, **fakes, batch_isend_irecv=batch_isend_irecv, get_backend=lambda *_: "nccl")
