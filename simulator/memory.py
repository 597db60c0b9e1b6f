"""Memory that is freed stays with the process, so that the next tensor of that size costs no page faults.

A step of many nodes makes and frees tensors of many megabytes. By default the C library asks the kernel for each of
them and gives it back at once, and the kernel clears every page again, which takes as long as the products of a small
model.
"""

import ctypes
import os

# Of malloc.h of the GNU C library.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_NEVER = 2**31 - 1


def keep_memory() -> bool:
    """Makes the C library keep freed memory, and torch ask for huge pages; call it before torch allocates.

    A process that called it holds the most memory that it ever used until it ends.

    Returns:
        Whether the C library does so; False for others than the GNU one.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads this at its first allocation
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(set_option(_M_MMAP_MAX, 0)) and bool(set_option(_M_TRIM_THRESHOLD, _NEVER))
