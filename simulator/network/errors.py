"""Errors of communication: another process is gone, or it does not answer in time."""


class LostProcessError(RuntimeError):
    """The connection to another process broke; ``peer`` is its rank, or -1 when it may be any."""

    def __init__(self, message: str, peer: int) -> None:
        super().__init__(message)
        self.peer = peer


class SilentProcessError(TimeoutError):
    """Another process did not answer within the timeout; ``peer`` is its rank, or -1 when it may be any."""

    def __init__(self, message: str, peer: int) -> None:
        super().__init__(message)
        self.peer = peer


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters; the name of its type when it has no text."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def is_timeout(error: BaseException) -> bool:
    """Whether an error of torch.distributed is a timeout, judged by its text."""
    text = str(error).lower()
    return "timed out" in text or "timeout" in text
