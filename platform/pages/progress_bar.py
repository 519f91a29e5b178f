"""Works under way on standard error: bars in a terminal, elsewhere a line from time to time."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.text import Text

from ...trainers.progress import watched
from ..base.output import guard_output
from .console import VisibleConsole

_FIRST_S, _LONGEST_S = 10.0, 300.0
"""Seconds before the first line of a work, and at most between two: each pause is twice the one before."""


@contextmanager
def progress_shown() -> Iterator[None]:
    """While this lasts whoever waits sees what this process does and how far it is; standard output is for results."""
    console = VisibleConsole(stderr=True)
    if not console.is_terminal:
        with _told(), watched(Lines(lambda line: print(line, file=sys.stderr, flush=True))):
            yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeLeft(), _Note())
    # What is printed meanwhile goes above the bars, but never from a pipe into the terminal.
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bars:
        guard_output()
        with _told(), watched(Bars(bars)):
            yield


@contextmanager
def _told() -> Iterator[None]:
    """While this lasts the project's log is shown, and not only its warnings."""
    logging.basicConfig(format="%(message)s")
    logger = logging.getLogger("advseg")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)


class Bars:
    """A bar for each work."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def see(self, what: str, done: int, total: int, note: str) -> None:
        """Move its bar."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, completed=done, note=note, begun=done)
        self._bars.update(self._tasks[what], completed=done, note=note)

    def leave(self, what: str) -> None:
        """Take its bar away."""
        if (task := self._tasks.pop(what, None)) is not None:
            self._bars.remove_task(task)


class _Rate(ProgressColumn):
    """Items a second, of those that this process did."""

    def render(self, task: Task) -> Text:
        """Empty before the first."""
        return Text(rate_text((task.completed - task.fields["begun"]) / task.elapsed) if task.elapsed else "")


class _Note(ProgressColumn):
    """What the work tells of itself."""

    def render(self, task: Task) -> Text:
        """As it stands."""
        return Text(task.fields["note"])


@dataclass
class _Seen:
    """A work of which lines are printed."""

    began: float
    begun: int
    """Items that were done by then."""
    told: float
    pause: float = _FIRST_S


class Lines:
    """A line from time to time, at ever longer pauses."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write, self._clock = write, clock
        self._seen: dict[str, _Seen] = {}

    def see(self, what: str, done: int, total: int, note: str) -> None:
        """Print a line, if the last one is long enough ago."""
        now = self._clock()
        seen = self._seen.setdefault(what, _Seen(began=now, begun=done, told=now))
        if now - seen.told >= seen.pause:
            seen.told, seen.pause = now, min(2 * seen.pause, _LONGEST_S)
            rate = (done - seen.begun) / (now - seen.began)
            left = f"{timedelta(seconds=round((total - done) / rate))} left" if rate else ""
            parts = (f"{what} {done}/{total}", rate_text(rate), left, note)
            self._write("  ".join(part for part in parts if part))

    def leave(self, what: str) -> None:
        """Another of its name begins anew."""
        self._seen.pop(what, None)


def rate_text(rate: float) -> str:
    """Items a second, or a minute where they are slow; empty before the first."""
    return "" if not rate else f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
