"""A counter of all that this process gets done, which tells one that is slow from one that hangs.

It moves with every step, every batch of an evaluation, every file of a dataset that is opened.
"""

from itertools import count

_numbers = count(1)
_newest = 0


def tick() -> None:
    """Something is done. May be called from any thread."""
    global _newest
    _newest = next(_numbers)


def ticks() -> int:
    """How much is done by now."""
    return _newest
