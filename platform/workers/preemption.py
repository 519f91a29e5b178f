"""Pre-emption: a process that is told to end (by a signal, or as its node drains) while it trains saves first."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_training = threading.Event()
_asked = threading.Event()


def listen(signal_: signal.Signals = signal.SIGTERM, tell: Callable[[], object] = lambda: None) -> None:
    """From now on a signal asks a training to save and end, and `tell` says so; while none runs it does as before.

    A second Ctrl-C does as before, too. To be called from the process's main thread, for Python handles signals in no
    other.
    """
    before = signal.getsignal(signal_)

    def hear(signum: int, frame: FrameType | None) -> None:
        if _training.is_set() and not (signum == signal.SIGINT and _asked.is_set()):
            ask()
            tell()
        elif callable(before):
            before(signum, frame)
        elif before is not signal.SIG_IGN:
            raise SystemExit(1)

    signal.signal(signal_, hear)


@contextmanager
def listening(tell: Callable[[], object]) -> Iterator[None]:
    """While this lasts SIGTERM and Ctrl-C are heard so."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    for signum in before:
        listen(signum, tell)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


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
