"""A device that is not the CPU, on a machine without one: tensors that say they live on it, and compute on the CPU.

A test that runs on it finds operations that mix devices, which fail as they do on a GPU, and whatever makes the host
wait for a GPU, which is counted by file and line. Operations whose result would depend on the order in which a GPU
writes fail too. The numbers are those of the CPU.

The device must be installed before anything in the process uses autograd and before a fork, so tests that use it run
in an interpreter of their own. It is PyTorch's slot for devices of third parties (``PrivateUse1``).

    device = pretended_device.install()
    with pretended_device.in_use() as counts:
        ...                                # tensors of ``device``
    counts.total(pretended_device.WAIT)    # reads of values, such as item() and nonzero()
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from simulator.testing.write_order import has_several_for_one_place

NAME = "pretended"

UPLOAD = "upload"  # an asynchronous copy to the device, from pinned memory
COPY_TO_DEVICE = "copy to device"
COPY_TO_HOST = "copy to host"
WAIT = "wait"
BLOCKING = (COPY_TO_DEVICE, COPY_TO_HOST, WAIT)
"""The kinds of events that make the host wait."""

_ATEN = torch.ops.aten
# The host needs a value of the result, or its length, before it can go on.
_WAITING = {
    *(_ATEN._local_scalar_dense.default, _ATEN.equal.default, _ATEN.nonzero.default, _ATEN.masked_select.default),
    *(_ATEN.bincount.default, _ATEN._unique2.default, _ATEN.unique_consecutive.default, _ATEN.unique_dim.default),
    *(_ATEN.repeat_interleave.Tensor, _ATEN._linalg_check_errors.default, _ATEN._linalg_solve_ex.default),
}
_INDEXING = {
    *(_ATEN.index.Tensor, _ATEN._unsafe_index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default),
    *(_ATEN._index_put_impl_.default, _ATEN._unsafe_index_put.default),
}


_PINNING = {_ATEN.pin_memory.default, _ATEN._pin_memory.default}
_ASKING_FOR_PINNED = {_ATEN.is_pinned.default}


class NotDeterministicError(RuntimeError):
    """The result of an operation would depend on the order in which a GPU writes."""


class MixedDevicesError(RuntimeError):
    """An operation got tensors of the CPU and of the device."""


@dataclass
class Counts:
    """How often each kind of event has happened, by the line of the simulator that caused it.

    Attributes:
        events: number of times, by (kind, ``file:line operation``).
    """

    events: Counter[tuple[str, str]] = field(default_factory=Counter)

    def note(self, kind: str, operation: object) -> None:
        """Counts an event at the line of the simulator that is being executed."""
        self.events[kind, f"{_line()} {str(operation).replace('aten.', '')}"] += 1

    def total(self, *kinds: str) -> int:
        """The number of events of some kinds."""
        return sum(count for (kind, _), count in self.events.items() if kind in kinds)

    def lines(self, *kinds: str) -> dict[str, int]:
        """The events of some kinds by line, most frequent first."""
        lines: Counter[str] = Counter()
        for (kind, line), count in self.events.items():
            if kind in kinds:
                lines[f"{kind}: {line}"] += count
        return dict(lines.most_common())


def _line() -> str:
    """The innermost line outside of this module that belongs to the project, as ``file:line``."""
    frame: FrameType | None = sys._getframe(1)
    fallback = "?"
    while frame is not None:
        path = frame.f_code.co_filename
        if path != __file__ and "/torch/" not in path:
            fallback = f"{path}:{frame.f_lineno}" if fallback == "?" else fallback
            if "/simulator/" in path:
                return f"{path.rpartition('/simulator/')[2]}:{frame.f_lineno}"
        frame = frame.f_back
    return fallback


class OnDevice(Tensor):
    """A tensor of the device; ``held`` is the CPU tensor with its values."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        strided = held.layout == torch.strided
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride() if strided else None,
            storage_offset=held.storage_offset() if strided else None,
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    @property
    def layout(self) -> torch.layout:  # type: ignore[override]
        """That of the values; the wrapper of a sparse tensor cannot tell its own."""
        return self.held.layout

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(operation, args, dict(kwargs or {}), _state.counts)


def held(tensor: Tensor) -> Tensor:
    """The CPU tensor with the values of a tensor, which may be of the device or not."""
    return tensor.held if isinstance(tensor, OnDevice) else tensor


class _State:
    """What is counted now, and which memory has been pinned: never freed, so that its addresses stay unique."""

    counts = Counts()
    pinned: dict[int, Tensor] = {}  # noqa: RUF012
    is_installed = False


_state = _State()


def _is_pinned(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and tensor.untyped_storage().data_ptr() in _state.pinned


def _pin(tensor: Tensor) -> Tensor:
    _state.pinned[tensor.untyped_storage().data_ptr()] = tensor
    return tensor


def _is_here(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _compute(operation: Any, args: Sequence[Any], kwargs: dict[str, Any], counts: Counts) -> Any:
    """Does an operation on the CPU; its results are of the device when its tensors are, or its ``device`` says so."""
    tensors: list[Tensor] = []
    arguments = [_opened(x, tensors) for x in args]
    options = {key: _opened(x, tensors) for key, x in kwargs.items()}
    asked = _is_here(kwargs.get("device"))
    ours = [x for x in tensors if isinstance(x, OnDevice)]
    if operation in _PINNING:
        return _pin(args[0].clone())
    if operation in _ASKING_FOR_PINNED:
        return _is_pinned(args[0])
    pins = options.pop("pin_memory", None)
    if not ours and not asked:
        result = operation(*arguments, **options)
        return _pin(result) if pins else result
    if asked:
        options["device"] = torch.device("cpu")
    stays = True
    if operation is _ATEN._to_copy.default:
        asynchronous = bool(options.pop("non_blocking", False)) and kwargs.get("dtype") in (None, args[0].dtype)
        stays = asked or (kwargs.get("device") is None and bool(ours))
        if bool(ours) != stays:
            _count_copy(counts, operation, args[0], stays, asynchronous)
    elif operation is _ATEN.copy_.default:
        target, source = args[0], args[1]
        if isinstance(target, OnDevice) != isinstance(source, OnDevice):
            asynchronous = (
                bool(args[2] if len(args) > 2 else kwargs.get("non_blocking")) and target.dtype == source.dtype
            )
            host = source if isinstance(target, OnDevice) else target
            _count_copy(counts, operation, host, isinstance(target, OnDevice), asynchronous)
    else:
        _check_devices(counts, operation, args, tensors)
        if has_several_for_one_place(operation, arguments):
            raise NotDeterministicError(f"{_line()}: {operation} writes to a place twice, in any order on a GPU")
    result = operation(*arguments, **options)
    if not stays or operation is _ATEN._local_scalar_dense.default:
        return result
    return _placed(result, ours)


def _opened(argument: Any, tensors: list[Tensor]) -> Any:
    """An argument with the CPU tensors in place of those of the device; adds all its tensors to ``tensors``."""
    if isinstance(argument, Tensor):
        tensors.append(argument)
        return held(argument)
    if isinstance(argument, list | tuple):
        return [_opened(x, tensors) for x in argument]
    return argument


def _placed(result: Any, ours: Sequence[OnDevice]) -> Any:
    """A result on the device: its tensors are arguments that were changed in place, or new ones."""
    if isinstance(result, Tensor):
        for x in ours:
            if x.held is result:
                return x
        return OnDevice(result)
    if isinstance(result, list | tuple):
        return type(result)([_placed(x, ours) for x in result])
    return result


def _count_copy(counts: Counts, operation: Any, host: Tensor, to_device: bool, asynchronous: bool) -> None:
    """Counts a copy; the host goes on at once only when its memory is pinned."""
    if to_device:
        counts.note(UPLOAD if asynchronous and _is_pinned(host) else COPY_TO_DEVICE, operation)
    elif not (asynchronous and _is_pinned(host)):
        counts.note(COPY_TO_HOST, operation)


def _check_devices(counts: Counts, operation: Any, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    """Counts what makes the host wait, and refuses tensors of the CPU; their scalars may join, as on a GPU."""
    strangers = [x for x in tensors if not isinstance(x, OnDevice) and x.dim() > 0]
    if operation in _INDEXING and isinstance(args[0], OnDevice):
        indices = [x for x in args[1] if isinstance(x, Tensor)]
        for index in indices:
            if not isinstance(index, OnDevice):  # PyTorch takes it to the device
                counts.note(COPY_TO_DEVICE, operation)
                strangers = [x for x in strangers if x is not index]
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
            counts.note(WAIT, operation)
    if strangers:
        shapes = ", ".join(str(tuple(x.shape)) for x in strangers)
        raise MixedDevicesError(f"{_line()}: {operation} got tensors of the CPU of shape {shapes} on {NAME}")
    if operation in _WAITING:
        counts.note(WAIT, operation)


class _Dispatch(TorchDispatchMode):
    """Takes operations to the device whose arguments ask for it though none of their tensors is there."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise PyTorch imports its compiler, which takes seconds

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _compute(operation, args, dict(kwargs or {}), _state.counts)


class _Functions(TorchFunctionMode):
    """Functions of Python that pass the dispatcher by."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and _is_here(options.get("device")):
            device = options.pop("device")
            return function(*args, **options).to(device)
        if function in (Tensor.tolist, Tensor.numpy) and isinstance(args[0], OnDevice):
            if function is Tensor.numpy:
                raise TypeError(f"cannot convert a tensor of {NAME} to NumPy; use cpu() first")
            return args[0].cpu().tolist()
        if function is Tensor.is_pinned:
            return _is_pinned(args[0])
        if function in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], OnDevice):
            args = (args[0], _index_of_tensors(args[1]), *args[2:])
        return function(*args, **options)


def _index_of_tensors(index: Any) -> Any:
    """An index whose lists and arrays are tensors of the CPU, which the operation then takes to the device."""
    if isinstance(index, tuple):
        return tuple(_index_of_tensors(part) for part in index)
    return torch.as_tensor(index) if isinstance(index, list | np.ndarray) else index


class _Module(_DummyBackendModule):
    """What PyTorch asks a device's module for."""

    def _lazy_init(self) -> None: ...
    def set_device(self, *_: Any) -> None: ...
    def synchronize(self, *_: Any) -> None: ...
    def set_rng_state(self, *_: Any) -> None: ...
    def get_rng_state(self, *_: Any) -> Tensor:
        return torch.zeros(0, dtype=torch.uint8)


def install() -> torch.device:
    """Registers the device with PyTorch, once per process, and returns it."""
    if not _state.is_installed:
        _setup_privateuseone_for_python_backend(NAME, _Module())
        _state.is_installed = True
    return torch.device(NAME, 0)


@contextmanager
def in_use() -> Iterator[Counts]:
    """Makes the device usable inside the block; what is counted there is what the block gets."""
    before, _state.counts = _state.counts, Counts()
    try:
        with _Functions(), _Dispatch():  # type: ignore[no-untyped-call]
            yield _state.counts
    finally:
        _state.counts = before
