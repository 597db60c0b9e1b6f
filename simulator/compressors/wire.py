"""The number type in which a compressor sends the real numbers of a packet (entries, norms).

float32 is what published schemes send. Rows in float64 lose digits by it: their trajectories then differ from those of
an exact program by about 1e-6 of their size. float64 keeps them.
"""

import torch

_TYPES = {"float32": torch.float32, "float64": torch.float64}


def check_wire_dtype(name: str | None) -> None:
    """Raises ValueError unless ``name`` is a setting that :func:`wire_type` knows."""
    if name is not None and name not in _TYPES:
        raise ValueError(
            f"compressor.wire_dtype={name!r}: expected {', '.join(_TYPES)}, or null for the type of the rows"
        )


def wire_type(name: str | None, dtype: torch.dtype) -> torch.dtype:
    """The type that the setting ``name`` names; for None ``dtype``, the type of the rows."""
    return dtype if name is None else _TYPES[name]
