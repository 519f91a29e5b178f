"""How long a training waits for its images, and what it can do about it."""

import logging
import time
from collections.abc import Callable, Generator
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


def watching(batches: Generator[T], dataset: Dataset, clock: Callable[[], float] = time.monotonic) -> Generator[T]:
    """The batches; once, if they are decoded from files and long waited for, a line that a pack would spare it."""
    waited = began = 0.0
    with closing(batches):
        for number in range(LAST + 1):
            asked = clock()
            if number == FIRST:
                waited, began = 0.0, asked
            if (batch := next(batches, None)) is None:
                return
            waited += clock() - asked
            yield batch
        share = waited / (clock() - began)
        if share >= LONG and isinstance(dataset.labelled[0], FileSample):
            log.info(
                "note: %.0f %% of the time is waited for images: `advseg data pack` decodes them once, "
                "dataset.pack reads them from there",
                100 * share,
            )
        yield from batches
