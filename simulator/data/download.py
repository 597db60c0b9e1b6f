"""Downloading through other libraries: without their output, and with a timeout for every wait."""

import contextlib
import io
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_and_timed(timeout_s: float) -> Iterator[None]:
    """Hides what is printed inside the block and bounds every wait on a socket."""
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(timeout_s)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(previous)


def require_timeout(timeout_s: float) -> None:
    """Raises ValueError unless ``timeout_s`` is positive."""
    if not timeout_s > 0:
        raise ValueError(f"dataset.timeout_s={timeout_s}: a positive number of seconds is needed")
