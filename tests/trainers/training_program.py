"""Short trainings on the shapes dataset, as functions and as a program: what tests kill and start several times.

    python training_program.py DATASET DIRECTORY… [--recipe NAME] [--workers N…] [--die-at N] [--ask-at N]

There are as many directories as numbers of workers, which all train at the same time. With `--ask-at` the last worker
asks to stop from that step on. It prints `ready` before the first step, the step at each report, and how many changes
to the disk its checkpoints and its outcome took.
"""

import argparse
import importlib
import multiprocessing.connection
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import distributed as dist
from torch import nn

from advseg.models import deeplab_v3plus, resnet
from advseg.models.architectures import RESNET_BLOCKS, CompactSettings, DeepLabSettings
from advseg.models.discriminator import DiscriminatorSettings
from advseg.models.resnet import BatchNorm
from advseg.trainers import saved
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.dataset import Dataset, DatasetSettings
from advseg.trainers.data.images import IGNORE_INDEX
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.shapes import CLASSES
from advseg.trainers.distributed import World
from advseg.trainers.errors import PreemptedError
from advseg.trainers.loop import Training
from advseg.trainers.methods.adversarial import AdversarialSettings
from advseg.trainers.methods.consistency import ConsistencySettings
from advseg.trainers.methods.supervised import SupervisedSettings
from advseg.trainers.methods.table import MethodSettings
from advseg.trainers.optimizers import AdamSettings, SGDSettings
from advseg.trainers.recipe import Recipe
from advseg.trainers.reporter import JsonLinesReporter, Report, Reporters
from advseg.trainers.settings import TrainerSettings

STEPS, EVALUATE_EVERY = 12, 3
DISK_CHANGES = ("mkdir", "fsync", "rename", "replace", "unlink", "rmdir")
KNOBS = {field.name for kind in (AdversarialSettings, ConsistencySettings) for field in fields(kind)}


METHODS: dict[str, MethodSettings] = {
    "adversarial": AdversarialSettings(
        threshold=0.4,
        semi_start=4,
        discriminator=DiscriminatorSettings(widths=(4, 8), classifier="dense"),
        discriminator_optimizer=AdamSettings(lr=0.001),
    ),
    "consistency": ConsistencySettings(
        threshold=0.3,
        ema_decay=0.9,
        views=2,
        feature_dropout=True,
        lambda_adv=0.01,
        discriminator=DiscriminatorSettings(widths=(4, 8), classifier="dense"),
        discriminator_optimizer=AdamSettings(lr=0.001),
    ),
    "supervised": SupervisedSettings(),
}
"""Settings of every method with which it does all that it can within twelve steps."""


def recipe_of(method: str = "adversarial", **settings) -> Recipe:
    """Twelve steps; settings are of the method or of the trainer."""
    knobs = {name: settings.pop(name) for name in KNOBS & settings.keys()}
    trainer = TrainerSettings(
        steps=STEPS,
        evaluate_every=EVALUATE_EVERY,
        batch_size=2,
        segmenter_optimizer=SGDSettings(lr=0.01),
        augmentation=AugmentationSettings(crop=(24, 24)),
    )
    trainer = replace(trainer, **settings)
    if method == "adversarial":
        knobs = {"semi_start": min(4, trainer.steps - 1), **knobs}
    return Recipe(segmenter=CompactSettings(width=8), method=replace(METHODS[method], **knobs), trainer=trainer)


def compact_for_many_workers() -> Recipe:
    """Twenty-four steps in double precision, each reported; two, three or four workers' shares of a batch differ."""
    return recipe_of(precision="float64", batch_size=5, steps=24, evaluate_every=1, collapse_patience=None)


def deeplab_for_many_workers() -> Recipe:
    """Ten such steps of DeepLab with frozen batch norm. Fresh and unscaled, it bears small rates only."""
    recipe = compact_for_many_workers()
    return replace(
        recipe,
        segmenter=DeepLabSettings(architecture="deeplab_v2_resnet50", batch_norm="frozen"),
        trainer=replace(recipe.trainer, steps=10, segmenter_optimizer=SGDSettings(lr=1e-6)),
    )


def seldom_reported() -> Recipe:
    """Thirty-two steps in double precision with two reports, and checkpoints between them."""
    return recipe_of(
        precision="float64",
        batch_size=4,
        steps=32,
        evaluate_every=16,
        save_every=6,
        semi_start=2,
        collapse_patience=None,
    )


def running_statistics() -> Recipe:
    """Sixteen steps with one report, of DeepLab whose batch norm gathers statistics of each worker's own images."""
    recipe = recipe_of(
        "supervised", batch_size=4, steps=16, evaluate_every=16, segmenter_optimizer=SGDSettings(lr=1e-6)
    )
    return replace(recipe, segmenter=DeepLabSettings(architecture="deeplab_v2_resnet50"))


def of_method(name: str) -> Recipe:
    """Eight steps of a method in double precision, with a batch of which workers' shares differ."""
    return recipe_of(name, precision="float64", batch_size=5, steps=8, evaluate_every=2, collapse_patience=None)


RECIPES: dict[str, Callable[[], Recipe]] = {
    **{name: partial(of_method, name) for name in METHODS},
    "short": recipe_of,
    "compact": compact_for_many_workers,
    "deeplab": deeplab_for_many_workers,
    "seldom": seldom_reported,
    "statistics": running_statistics,
}


@contextmanager
def small_deeplab() -> Iterator[None]:
    """DeepLab is built of one block a stage and at most 64 channels: at its own size it would train for minutes."""

    def narrow(layer: type[nn.Module], counts: int) -> type[nn.Module]:
        def init(self, *args, **options) -> None:
            super(narrowed, self).__init__(*(min(n, 64) for n in args[:counts]), *args[counts:], **options)

        narrowed = type(layer.__name__, (layer,), {"__init__": init})
        return narrowed

    with (
        mock.patch.object(nn, "Conv2d", narrow(nn.Conv2d, 2)),
        mock.patch.multiple(resnet, BatchNorm=narrow(BatchNorm, 1)),
        mock.patch.multiple(deeplab_v3plus, BatchNorm=narrow(BatchNorm, 1), _WIDTH=8),
        mock.patch.dict(RESNET_BLOCKS, dict.fromkeys(RESNET_BLOCKS, (1, 1, 1, 1))),
    ):
        yield


def open_shapes(root: Path, test: str | None = None) -> Dataset:
    return open_dataset(DatasetSettings(root=root, classes=CLASSES, ignore_index=IGNORE_INDEX, test=test))


def say(line: object) -> None:
    """Print a line in one piece: two workers have one output, and where it is unbuffered they met in a line."""
    print(f"{line}\n", end="", flush=True)


class Line:
    """Prints the step."""

    def report(self, report: Report) -> None:
        say(report.step)


class Asking:
    """A guard that asks to stop from a step on."""

    def __init__(self, step: int | None) -> None:
        self.step = step
        self.training: Training | None = None

    def check(self) -> None:
        """Nobody else is here."""

    def asked_to_stop(self) -> bool:
        return self.step is not None and self.training is not None and self.training.step >= self.step


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def counted(die_at: int | None, kill: Callable[[], None] = die) -> Iterator[list[str]]:
    """Collects the changes to the disk made while the training saves, and dies before the one numbered `die_at`.

    A `kill` that only raises is called again for each change after it: nothing is changed any more.
    """
    changes: list[str] = []

    def watched(name: str, change: Callable) -> Callable:
        def run(*args, **kwargs):
            if len(changes) == die_at:
                kill()
            changes.append(name)
            return change(*args, **kwargs)

        return run

    def watching(save: Callable) -> Callable:
        def run(*args, **kwargs):
            with mock.patch.multiple(os, **{name: watched(name, getattr(os, name)) for name in DISK_CHANGES}):
                return save(*args, **kwargs)

        return run

    saves = (saved.save_checkpoint, saved.write_outcome)
    with mock.patch.multiple(saved, **{save.__name__: watching(save) for save in saves}):
        yield changes


def train(asked: argparse.Namespace, directory: Path, world: World) -> None:
    if world.size > 1:
        store = dist.FileStore(str(directory / "store"), world.size)
        dist.init_process_group("gloo", store=store, rank=world.rank, world_size=world.size)
    torch.set_num_threads(1)
    dataset = open_shapes(asked.root)
    reporters = Reporters(Line(), JsonLinesReporter(directory / f"reports-{world.rank}.jsonl"))
    with small_deeplab():
        guard = Asking(asked.ask_at) if world.rank == world.size - 1 else None
        training = Training(RECIPES[asked.recipe](), dataset, directory, world=world, guard=guard)
    if guard:
        guard.training = training
    with counted(asked.die_at) as changes:
        say("ready")
        try:
            training.run(reporters)
        except PreemptedError as error:
            say(error)
    say(f"changes {len(changes)}")
    if world.size > 1:
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("directories", type=Path, nargs="+")
    parser.add_argument("--recipe", choices=RECIPES, default="short")
    parser.add_argument("--workers", type=int, nargs="+", default=[1])
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--ask-at", type=int)
    asked = parser.parse_args()
    trainings = [
        (directory, World(rank=rank, size=size))
        for directory, size in zip(asked.directories, asked.workers, strict=True)
        for rank in range(size)
    ]
    if len(trainings) == 1:
        train(asked, *trainings[0])
        return
    # What every optimizer imports is imported once: forked ones have it.
    importlib.import_module("torch._dynamo")
    # Daemons end with the program.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=train, args=(asked, *training), daemon=True) for training in trainings]
    for worker in workers:
        worker.start()
    # One that fails leaves the others waiting for it.
    while running := [worker.sentinel for worker in workers if worker.exitcode is None]:
        multiprocessing.connection.wait(running)
        if any(worker.exitcode for worker in workers):
            sys.exit(1)


if __name__ == "__main__":
    main()
