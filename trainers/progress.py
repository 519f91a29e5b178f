"""How far this process has come: a counter, which tells one that is slow from one that hangs, and works under way.

The counter moves with every step, every batch of an evaluation, every file of a dataset that is opened.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Protocol, TypeVar

Item = TypeVar("Item")

_numbers = count(1)
_newest = 0
_told: Callable[[], object] | None = None


class Watcher(Protocol):
    """Is told of the works under way. May be called from any thread."""

    def see(self, what: str, done: int, total: int, note: str) -> None:
        """So many of a work's items are done, of which `what` is the name, as in "images". `note` is for reading."""
        ...

    def leave(self, what: str) -> None:
        """The work has ended, be it done or not."""
        ...


class Done(Protocol):
    """Takes how much of a work is done."""

    def __call__(self, count: int, note: str = "") -> None:
        """So many items, in all; `note` is for reading."""
        ...


class _Nobody:
    def see(self, what: str, done: int, total: int, note: str) -> None:
        """Nobody looks."""

    def leave(self, what: str) -> None:
        """Nobody looked."""


_watcher: Watcher = _Nobody()


def tick() -> None:
    """Something is done. May be called from any thread."""
    global _newest
    _newest = next(_numbers)
    if _told:
        _told()


def tell_of_ticks(told: Callable[[], object]) -> None:
    """Call that at each `tick`, too, from now on: for a process that works for another one."""
    global _told
    _told = told


def ticks() -> int:
    """How much is done by now."""
    return _newest


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """While this lasts somebody sees the works of this process, in place of whoever did before."""
    global _watcher
    before, _watcher = _watcher, watcher
    try:
        yield
    finally:
        _watcher = before


@contextmanager
def underway(what: str, total: int) -> Iterator[Done]:
    """A work for as long as it lasts, whose progress is told by calling what this gives."""
    watcher = _watcher

    def done(count: int, note: str = "") -> None:
        watcher.see(what, count, total, note)

    try:
        yield done
    finally:
        watcher.leave(what)


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """The items of a work one by one, each a `tick` once the next is asked for; whoever watches sees how many are done.

    `total` is how many there are, and `what` what is done with them, as in "images predicted".
    """
    with underway(what, total) as done:
        done(0)
        for number, item in enumerate(items, 1):
            yield item
            tick()
            done(number)
