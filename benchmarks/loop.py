"""The whole training loop, which draws, moves and steps, beside its bare step on a batch that is ready.

    python benchmarks/loop.py                         `compact`, 2 + 2 images, on the CPU
    python benchmarks/loop.py PEER                    DeepLab-v2 ResNet-101, 1 + 1 images, on the CPU
    python benchmarks/loop.py PEER --device cuda      the same, 10 + 10 images, bfloat16, on a GPU

Ours is `Training` from a pack and from files: VOC-sized images (JPEGs, 375 x 500 and on end), random scale, crop 321,
nothing evaluated in the steps that count. With PEER, a clone of hfslyc/AdvSemiSeg, its loop is there, too: its loaders
with their own workers, and its step. In a round each has so many steps in turn, of which the first ones, whose batches
lie ready, do not count.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Semaphore, Thread

import source  # noqa: F401
import torch
from input import listed_dataset, published_dataset, write_dataset
from peer import Peer, PublishedStep
from timing import in_turn, machine

from advseg.models.architectures import CompactSettings, DeepLabSettings
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.classes import VOC_CLASSES
from advseg.trainers.data.dataset import Dataset
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.packing import write_pack
from advseg.trainers.loop import Training
from advseg.trainers.methods.adversarial import AdversarialSettings
from advseg.trainers.recipe import Recipe
from advseg.trainers.reporter import RecordingReporter
from advseg.trainers.settings import TrainerSettings
from advseg.trainers.speed import SpeedSettings

IMAGES, CROP, NEVER = 60, 321, 10**6
PUBLISHED_WORKERS = 3
"""Of each of its three loaders, which draw two batches each ahead."""


class EnoughError(Exception):
    """Ends a loop that is in turn no more."""


class Loop:
    """A training of which so many steps are made at a time: its guard, asked after each, waits for the next turn."""

    def __init__(self, training: Callable[["Loop"], Training], settle: Callable[[], object]) -> None:
        self._settle = settle
        self._left = 0
        self._turn, self._made = Semaphore(0), Semaphore(0)
        self._ended = False
        self._threads = torch.get_num_threads()
        self._thread = Thread(target=self._run, args=(training(self),), daemon=True)
        self._thread.start()

    def _run(self, training: Training) -> None:
        torch.set_num_threads(self._threads)
        self._turn.acquire()
        try:
            with suppress(EnoughError):
                training.run(RecordingReporter())
        except BaseException:
            self._ended = True
            self._made.release()
            raise

    def check(self) -> None:
        """Nobody else has its folder."""

    def asked_to_stop(self) -> bool:
        """Waits for its turn, where no step is left of this one."""
        self._left -= 1
        if not self._left:
            self._settle()
            self._made.release()
            self._turn.acquire()
        if self._ended:
            raise EnoughError
        return False

    def __call__(self, steps: int) -> None:
        """Make steps, and wait for the device."""
        self._left = steps
        self._turn.release()
        self._made.acquire()
        if self._ended:
            sys.exit("error: the training above ended")

    def close(self) -> None:
        """End the training."""
        self._ended = True
        self._turn.release()
        self._thread.join()


def datasets(root: Path) -> Iterator[tuple[str, Dataset]]:
    """One dataset packed and in files, half of it labelled."""
    settings = write_dataset(root / "voc", IMAGES + 1)
    listed = listed_dataset(settings)
    files = replace(listed, labelled=listed.labelled[::2], unlabelled=listed.labelled[1::2])
    write_pack(root / "pack", files, settings)
    yield "pack", open_dataset(replace(settings, pack=str(root / "pack")))
    yield "files", files


def recipe_of(network: DeepLabSettings | CompactSettings, batch_size: int, speed: SpeedSettings) -> Recipe:
    """The same settings for all of ours."""
    return Recipe(
        segmenter=network,
        method=AdversarialSettings(semi_start=0),
        trainer=TrainerSettings(
            steps=NEVER,
            evaluate_every=NEVER,
            batch_size=batch_size,
            augmentation=AugmentationSettings(crop=(CROP, CROP), scale=(0.5, 1.5), mirror=True),
            speed=speed,
        ),
    )


def bare(training: Training, settle: Callable[[], object]) -> Callable[[int], None]:
    """Steps of a training on one batch, which lies on the device."""
    batch = training.batch(0)

    def run(steps: int) -> None:
        for _ in range(steps):
            training.method.step(0, batch)
        settle()

    return run


def published(peer: Peer, root: Path, size: int, device: torch.device) -> Callable[[int], None]:
    """Its step on what its loaders give."""
    step = PublishedStep(peer, len(VOC_CLASSES), device)
    loaders = [
        iter(
            torch.utils.data.DataLoader(
                published_dataset(peer, root, 100 * IMAGES * size),
                batch_size=size,
                shuffle=True,
                num_workers=PUBLISHED_WORKERS,
                pin_memory=device.type == "cuda",
            )
        )
        for _ in range(3)
    ]

    def run(steps: int) -> None:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):  # as its script sets it
            for _ in range(steps):
                (images, labels, *_), (_, real, *_), (unlabelled, *_) = map(next, loaders)
                step(images, labels, real, unlabelled)

    return run


def seconds_a_step(program: Callable[[int], None], steps: int, lead_in: int) -> float:
    """Of so many steps, after those that lead in."""
    program(lead_in)
    started = time.perf_counter()
    program(steps)
    return (time.perf_counter() - started) / steps


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", type=Path, nargs="?")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of each in a round; by default 10, and 30 on a GPU")
    parser.add_argument("--prefetch", type=int, default=SpeedSettings().prefetch)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--graphs", action="store_true")
    asked = parser.parse_args()
    device, on_gpu = torch.device(asked.device), asked.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        sys.exit("error: --device is cuda, but PyTorch finds no GPU")
    settle = torch.cuda.synchronize if on_gpu else lambda: None
    speed = SpeedSettings(
        autocast="bfloat16" if on_gpu else None,
        compile=asked.compile,
        graphs=asked.graphs,
        prefetch=asked.prefetch,
        workers=asked.workers,
    )
    small = not (on_gpu or asked.peer)
    size = 10 if on_gpu else 2 if small else 1
    recipe = recipe_of(CompactSettings() if small else DeepLabSettings(branches=2), size, speed)
    print(
        f"{machine()}\n{recipe.segmenter.architecture}, {size} + {size} images of {CROP} x {CROP}, {speed}\n",
        flush=True,
    )
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        root, loops = Path(folder), dict[str, Loop]()
        try:
            for name, dataset in datasets(root):

                def training(
                    guard: Loop | None, dataset: Dataset = dataset, to: Path = root / f"run-{name}"
                ) -> Training:
                    return Training(recipe, dataset, to, device=device, guard=guard)

                loops[f"loop, {name}"] = Loop(training, settle)
            programs = {"bare step": bare(training(None), settle), **loops}
            if asked.peer:
                programs["published loop"] = published(Peer(asked.peer), root / "voc", size, device)
            steps = asked.steps or (30 if on_gpu else 10)
            # What lies ready at first, of ours and of each of its loaders.
            lead_in = max(asked.prefetch, asked.workers, 2 * PUBLISHED_WORKERS if asked.peer else 0) + 2

            def tell(seconds: Mapping[str, float]) -> None:
                """So that one that is cut off still tells something."""
                told = (f"{name} {2 * size / each:.1f}" for name, each in seconds.items())
                print(f"a round, images/s: {', '.join(told)}", flush=True)

            measures = {name: partial(seconds_a_step, each, steps, lead_in) for name, each in programs.items()}
            timings = in_turn(measures, rounds=asked.rounds, tell=tell)
        finally:
            for loop in loops.values():
                loop.close()
        print(f"\na step; faster is, of ours, the share of the bare step's rate\n{timings.table()}")
        for name in programs:
            print(f"{name:16} {2 * size / timings.median(name):8.1f} images/s")


if __name__ == "__main__":
    main()
