"""Pre-emption: a process that is told to end (SIGTERM, or its node drains) while it trains saves first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_training = threading.Event()
_asked = threading.Event()


def listen() -> None:
    """From now on SIGTERM asks a training to save and end; while none runs it does what it did before.

    To be called from the process's main thread, for Python handles signals in no other.
    """
    before = signal.getsignal(signal.SIGTERM)

    def hear(signum: int, frame: FrameType | None) -> None:
        if _training.is_set():
            ask()
        elif callable(before):
            before(signum, frame)
        elif before is not signal.SIG_IGN:
            raise SystemExit(1)

    signal.signal(signal.SIGTERM, hear)


@contextmanager
def training() -> Iterator[None]:
    """While this lasts SIGTERM ends nothing by itself."""
    _training.set()
    try:
        yield
    finally:
        _training.clear()
        _asked.clear()


def ask() -> None:
    """Ask the training of this process to save and end."""
    _asked.set()


def asked_to_stop() -> bool:
    """Whether the training was asked to since it began."""
    return _asked.is_set()
