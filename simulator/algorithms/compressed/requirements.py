"""What ways of compressed gossip need of a compressor Q.

Residuals against references (references.py) and error feedback apply Q to what Q has left over so far, so what is left
over shrinks only when Q is a contraction. Messages that are compressed by themselves need no contraction; the analysis
of such schemes asks for E Q(v) = v instead.
"""

from simulator.compressors.base import Compressor


def require_contraction(compressor: Compressor, num_columns: int, purpose: str) -> None:
    """Raises ValueError unless ``compressor`` is a contraction on rows of ``num_columns`` columns.

    Args:
        purpose: what needs it, as the subject of a sentence.
    """
    contraction = compressor.contraction(num_columns)
    if not contraction > 0:
        raise ValueError(
            f"compressor: {type(compressor).__name__} as set is no contraction on {num_columns} columns (its mean "
            f"squared error may be {1.0 - contraction:.3g} times the squared norm), and {purpose} needs one; use "
            "compressor.unbiased=false, or milder compression"
        )
