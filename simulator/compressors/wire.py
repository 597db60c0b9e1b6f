"""The number type in which a compressor sends the real numbers of a packet (entries, norms).

float32 is what published schemes send. Rows in float64 lose digits by it: their trajectories then differ from those of
an exact program by about 1e-6 of their size. float64 keeps them.
"""

import torch

_TYPES = {"float32": torch.float32, "float64": torch.float64}


def check_wire_dtype(word: str | None) -> None:
    """Raises ValueError unless ``word`` is a setting that :func:`wire_type` knows."""
    if word is not None and word not in _TYPES:
        raise ValueError(
            f"compressor.wire_dtype={word!r}: expected {', '.join(_TYPES)}, or null for the type of the rows"
        )


def wire_type(word: str | None, dtype: torch.dtype) -> torch.dtype:
    """The type that the setting ``word`` asks for; ``dtype``, that of the rows, for None."""
    return dtype if word is None else _TYPES[word]
