"""A short training on the shapes dataset, as functions and as a program: what tests kill and start several times.

    python training_program.py <dataset> <directory> [<rank> <size> <store>]

It prints a line for each report, and ends when its input does.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed as dist

from advseg.models.architectures import CompactSettings
from advseg.models.discriminator import DiscriminatorSettings
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import Dataset, DatasetSettings, open_dataset
from advseg.trainers.data.shapes import CLASSES, IGNORE_INDEX
from advseg.trainers.distributed import World
from advseg.trainers.loop import Recipe, TrainerSettings, Training
from advseg.trainers.optimizers import AdamSettings, SGDSettings
from advseg.trainers.reporter import JsonLinesReporter, Report, Reporters

STEPS, EVALUATE_EVERY = 12, 3


def recipe_of(**trainer) -> Recipe:
    """Twelve steps that use every loss."""
    settings = TrainerSettings(
        steps=STEPS,
        evaluate_every=EVALUATE_EVERY,
        batch_size=2,
        threshold=0.4,
        semi_start=4,
        segmenter_optimizer=SGDSettings(lr=0.01),
        discriminator_optimizer=AdamSettings(lr=0.001),
        augmentation=AugmentationSettings(crop=(24, 24)),
    )
    return Recipe(
        segmenter=CompactSettings(width=8),
        discriminator=DiscriminatorSettings(widths=(4, 8), classifier="dense"),
        trainer=replace(settings, **trainer),
    )


def for_many_workers() -> Recipe:
    """Ten steps in double precision, whose batch no even number of workers divides."""
    return recipe_of(precision="float64", batch_size=5, steps=10, evaluate_every=1)


def open_shapes(root: Path) -> Dataset:
    return open_dataset(DatasetSettings(root=root, classes=CLASSES, ignore_index=IGNORE_INDEX))


class Line:
    """Prints the step, and at the last one waits for the end of the input: a test kills the process before that."""

    def report(self, report: Report) -> None:
        print(report.step, flush=True)
        if report.step == report.steps:
            sys.stdin.read()


def main(root: str, directory: str, rank: str = "0", size: str = "1", store: str = "") -> None:
    world = World(rank=int(rank), size=int(size))
    torch.set_num_threads(1)
    if world.size > 1:
        file = dist.FileStore(store, world.size)
        dist.init_process_group("gloo", store=file, rank=world.rank, world_size=world.size)
    recipe = for_many_workers() if world.size > 1 else recipe_of()
    log = JsonLinesReporter(Path(directory) / f"reports-{rank}.jsonl")
    Training(recipe, open_shapes(Path(root)), Path(directory), world=world).run(Reporters(Line(), log))
    if world.size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
