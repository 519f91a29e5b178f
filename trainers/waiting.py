"""How long a training waits for its images, and what it can do about it."""

import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TypeVar

from .data.dataset import Dataset
from .data.samples import FileSample

log = logging.getLogger(__name__)

FIRST, LAST = 10, 110
"""The step from which and that until which the waiting is measured."""
LONG = 0.25
"""Share of the time from which on it is told."""
T = TypeVar("T")


class Timed(Iterator[T]):
    """Batches, and for how long they were waited for."""

    def __init__(self, batches: Generator[T], clock: Callable[[], float] = time.monotonic) -> None:
        self._batches = batches
        self.clock = clock
        self.waited = 0.0
        """Seconds, by the clock."""

    def __next__(self) -> T:
        asked = self.clock()
        try:
            return next(self._batches)
        finally:
            self.waited += self.clock() - asked

    def close(self) -> None:
        """Close the batches."""
        self._batches.close()


def watching(batches: Timed[T], dataset: Dataset) -> Generator[T]:
    """The batches; once, if they are decoded from files and long waited for, a line that a pack would spare it."""
    waited = began = 0.0
    with closing(batches):
        for number in range(LAST + 1):
            if number == FIRST:
                waited, began = batches.waited, batches.clock()
            if (batch := next(batches, None)) is None:
                return
            yield batch
        share = (batches.waited - waited) / (batches.clock() - began)
        if share >= LONG and isinstance(dataset.labelled[0], FileSample):
            log.info(
                "note: %.0f %% of the time is waited for images: `advseg data pack` decodes them once, "
                "dataset.pack reads them from there",
                100 * share,
            )
        yield from batches
