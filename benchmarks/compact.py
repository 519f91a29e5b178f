"""One step of the demo (`compact`, 8 + 8 images of 48 x 48, CPU): written plainly, and ours.

    python benchmarks/compact.py [--threads 1]

Shown twice: the step alone, on a batch that is there, and with drawing its batch, from files as the plain program
would, from a pack in ours. One thread is what a trial of the demo has.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from demo_task import SPEC
from plain import PlainStep
from timing import interleaved, machine

from advseg.platform.spec.spec_file import load_spec
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.packing import write_pack
from advseg.trainers.data.shapes import ShapesSettings, write_shapes
from advseg.trainers.loop import Training
from advseg.trainers.methods.adversarial_step import Adversarial
from advseg.trainers.recipe import Recipe
from advseg.trainers.speed import SpeedSettings

AFTER_WARMUP = 300
SPEEDS = {
    "ours, every switch off": SpeedSettings(channels_last=False, fused_optimizers=False, prefetch=0),
    "ours": SpeedSettings(),
    "ours, joint": SpeedSettings(joint_forward=True),
    "ours, joint, bfloat16": SpeedSettings(joint_forward=True, autocast="bfloat16"),
}


def training_of(recipe: Recipe, dataset: Dataset, folder: Path, speed: SpeedSettings) -> Training:
    """Our training of the demo, with its switches."""
    return Training(replace(recipe, trainer=replace(recipe.trainer, speed=speed)), dataset, folder)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_shapes(data / "shapes", ShapesSettings(labelled=50, unlabelled=750, val=8, test=1))
        spec = load_spec(SPEC, [f"dataset.root={data / 'shapes'}"])
        files = open_dataset(spec.dataset)
        write_pack(data / "pack", files, spec.dataset)
        packed = open_dataset(replace(spec.dataset, pack=str(data / "pack")))
        compare(spec.recipe(), files, packed, data, asked.rounds)


def compare(recipe: Recipe, files: Dataset, packed: Dataset, folder: Path, rounds: int) -> None:
    """Print both tables."""
    plain_training = training_of(recipe, files, folder, SPEEDS["ours, every switch off"])
    method = plain_training.method
    assert isinstance(method, Adversarial)
    plain = PlainStep(
        method.settings,
        recipe.trainer.segmenter_optimizer,
        method.segmenter,
        method.discriminator,
        ignored=files.ignore_index,
    )
    trainings = {name: training_of(recipe, packed, folder, speed) for name, speed in SPEEDS.items()}

    batches = {name: training.batch(AFTER_WARMUP) for name, training in trainings.items()}
    (batch,) = plain_training.batch(AFTER_WARMUP)

    def step_of(name: str) -> Callable[[], object]:
        return lambda: trainings[name].method.step(AFTER_WARMUP, batches[name])

    alone = {"plain": lambda: plain(batch), **{name: step_of(name) for name in trainings}}
    print("\nthe step alone")
    print(interleaved(alone, rounds=rounds, warmup=5).table())

    def drawn_step_of(name: str) -> Callable[[], object]:
        training = trainings[name]
        return lambda: training.method.step(AFTER_WARMUP, training.batch(AFTER_WARMUP))

    drawn = {
        "plain, files": lambda: plain(plain_training.batch(AFTER_WARMUP)[0]),
        **{f"{name}, pack": drawn_step_of(name) for name in trainings},
    }
    print("\nwith its batch drawn, in the same thread")
    print(interleaved(drawn, rounds=rounds, warmup=5).table())


if __name__ == "__main__":
    main()
