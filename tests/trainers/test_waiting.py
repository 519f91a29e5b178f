"""A training that waits long for images that it decodes is told so once."""

import logging
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from advseg.trainers.data.dataset import Dataset, DatasetSettings
from advseg.trainers.data.images import IGNORE_INDEX
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.packing import write_pack
from advseg.trainers.data.shapes import CLASSES
from advseg.trainers.waiting import FIRST, LAST, Timed, watching


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def told(dataset: Dataset, caplog: pytest.LogCaptureFixture, wait: float, steps: int, at_first: float = 0) -> list[str]:
    """What is logged of a training whose steps last a second each, the waiting not counted."""
    caplog.set_level(logging.INFO, "advseg")
    clock = Clock()

    def draws() -> Generator[int]:
        for number in range(steps):
            clock.now += wait + (at_first if number < FIRST else 0)
            yield number

    numbers = []
    for number in watching(Timed(draws(), clock), dataset):
        clock.now += 1
        numbers.append(number)
    assert numbers == [*range(steps)]
    return caplog.messages


def test_waiting_is_told_once_with_the_remedy(shapes: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    (line,) = told(shapes, caplog, wait=1, steps=5 * LAST)
    assert line.startswith("note: 50 % of the time is waited for images: `advseg data pack` decodes them once")


@pytest.mark.parametrize(
    ("wait", "steps", "at_first"),
    [(0.2, 5 * LAST, 0), (1, LAST, 0), (0, 5 * LAST, 100)],
    ids=["little", "few steps", "at first"],
)
def test_little_waiting_few_steps_and_a_slow_beginning_are_not(
    shapes: Dataset, caplog: pytest.LogCaptureFixture, wait: float, steps: int, at_first: float
) -> None:
    assert told(shapes, caplog, wait, steps, at_first) == []


def test_nor_is_waiting_for_a_pack(shapes_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = DatasetSettings(root=shapes_root, classes=CLASSES, ignore_index=IGNORE_INDEX)
    write_pack(tmp_path / "pack", open_dataset(settings), settings)
    packed = open_dataset(replace(settings, pack=str(tmp_path / "pack")))
    assert told(packed, caplog, wait=1, steps=5 * LAST) == []
