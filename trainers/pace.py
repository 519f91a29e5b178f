"""How fast a training goes on this machine, measured by a few steps of it."""

import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from .data.dataset import Dataset
from .data.samples import Sample
from .evaluate import evenly
from .loop import Training
from .progress import underway
from .recipe import Recipe

_FEW = 4
"""Images of each part that it is measured by."""
_UNCOUNTED = 2
"""Steps in which memory is taken and the images are read."""
_STEPS = 10
_LONGEST_S = 3.0
"""After which no further step is measured."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds on this machine, as busy as it is."""

    step: float
    """A step of what learns from all that it ever will, on images that were read before."""
    reading: float
    """A training image, the first time."""
    judging: float
    """A validation image."""
    drawing: float
    """The pictures of a report."""


def measure_pace(recipe: Recipe, dataset: Dataset) -> Pace:
    """The pace of a training in the later half of its steps, by a few images; what it trains meanwhile is dropped.

    Raises ImageError, and UserError for what the training itself refuses.
    """
    few = replace(
        dataset,
        labelled=_few(dataset.labelled),
        unlabelled=_few(dataset.unlabelled),
        validation=_few(dataset.validation),
    )
    with TemporaryDirectory() as folder:
        training = Training(recipe, few, Path(folder))
        step, reading = _step(training), _reading(few)
        judging, drawing = _report(training)
    return Pace(step=step, reading=reading, judging=judging, drawing=drawing)


def _few(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    return tuple(samples[place] for place in evenly(len(samples), _FEW))


def _step(training: Training) -> float:
    first = training.recipe.trainer.steps // 2
    steps = range(first, first + _UNCOUNTED + _STEPS)
    times: list[float] = []
    with (
        closing(training.batches.drawn_ahead(steps)) as drawn,
        underway("steps measured", len(steps)) as done,
    ):
        before = time.perf_counter()
        for step, parts in zip(steps, drawn, strict=True):
            training.method.step(step, training.batches.on_device(parts))
            # Waits for the device.
            training.method.meter.take()
            times.append(time.perf_counter() - before)
            done(len(times))
            before = time.perf_counter()
            if sum(times[_UNCOUNTED:]) > _LONGEST_S:
                break
    return mean(times[_UNCOUNTED:])


def _reading(dataset: Dataset) -> float:
    samples = [*dataset.labelled, *dataset.unlabelled]
    started = time.perf_counter()
    for sample in samples:
        sample.read_image()
        sample.read_mask()
    return (time.perf_counter() - started) / len(samples)


def _report(training: Training) -> tuple[float, float]:
    """Seconds of an evaluation, by image, and of the pictures that go with it."""
    started = time.perf_counter()
    evaluation = training.evaluate()
    judged = time.perf_counter()
    training.pictures(evaluation)
    return (judged - started) / evaluation.images, time.perf_counter() - judged
