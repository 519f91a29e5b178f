"""The demo's training on a small `shapes` dataset, and the time between its steps: what several benchmarks run."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from advseg.platform.spec.spec import Spec
from advseg.platform.spec.spec_file import load_spec
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.shapes import ShapesSettings, write_shapes
from advseg.trainers.distributed import World
from advseg.trainers.loop import Training
from advseg.trainers.methods.method import Batch
from advseg.trainers.reporter import Reporter

SPEC = Path(__file__).parent.parent / "jobs" / "specs" / "demo.yaml"
WARMUP = 10


def write_data(folder: Path) -> Path:
    """A dataset with few images to validate, so that a report costs little; returns its folder."""
    write_shapes(folder, ShapesSettings(labelled=50, unlabelled=100, val=4, test=1))
    return folder


def demo_spec(data: Path, *overrides: str) -> Spec:
    """The demo's spec on that data, with the method at work from step 0."""
    return load_spec(SPEC, [f"dataset.root={data}", "method.semi_start=0", *overrides])


def timed_training(data: Path, folder: Path, steps: int, world: World, reporter: Reporter) -> float:
    """Train for some steps with one report at the end, and return the median seconds from one step to the next."""
    spec = demo_spec(data)
    recipe = spec.recipe()
    recipe = replace(recipe, trainer=replace(recipe.trainer, steps=steps, evaluate_every=steps))
    training = Training(recipe, open_dataset(spec.dataset), folder, world=world)
    step, ended = training.method.step, []

    def timed_step(number: int, micro_batches: Sequence[Batch]) -> None:
        step(number, micro_batches)
        ended.append(time.perf_counter())

    training.method.step = timed_step  # type: ignore[method-assign]
    training.run(reporter)
    return statistics.median(b - a for a, b in zip(ended[WARMUP:], ended[WARMUP + 1 :], strict=False))
