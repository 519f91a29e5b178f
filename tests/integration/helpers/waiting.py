"""Waiting for conditions. The limit only ends what would wait for ever: no machine is to be too slow for it."""

import time
from collections.abc import Callable
from typing import TypeVar

LIMIT_S = 1200.0

T = TypeVar("T")


def wait_for(condition: Callable[[], T]) -> T:
    """What the condition gives, once that is true."""
    deadline = time.monotonic() + LIMIT_S
    while not (given := condition()):
        assert time.monotonic() < deadline, f"waited for {LIMIT_S:g} s"
        time.sleep(0.05)
    return given
