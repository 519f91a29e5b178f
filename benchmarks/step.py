"""One training step of DeepLab-v2 on ResNet-101, crop 321: the published implementation beside ours.

    python benchmarks/step.py PEER                  1 + 1 images on the CPU
    python benchmarks/step.py PEER --device cuda    10 + 10 images on a GPU, the published step also with autocast

PEER is a clone of hfslyc/AdvSemiSeg. Ours is its mathematics: two branches, batch statistics, a discriminator that
sees unlabelled predictions. Both start from fresh weights and see the same random images after the warm-up.

On a GPU each program is first looked at by itself, with its peak memory; then all go round by round.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import source  # noqa: F401
import torch
from peer import Peer, PublishedStep
from timing import interleaved, machine
from work import Work, copy_rate, counted

from advseg.models.architectures import DeepLabSettings, build_segmenter
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.distributed import World
from advseg.trainers.methods.adversarial import AdversarialSettings
from advseg.trainers.methods.method import Batch
from advseg.trainers.methods.table import build_method
from advseg.trainers.settings import TrainerSettings
from advseg.trainers.speed import SpeedSettings
from advseg.trainers.work import matmul_rate

CLASSES, CROP, IGNORED = 21, 321, 255
METHOD = AdversarialSettings(semi_start=0)
TRAINER = TrainerSettings(steps=20000, augmentation=AugmentationSettings(crop=(CROP, CROP)))
NETWORK = DeepLabSettings(branches=2)
SPEEDS = {
    "ours, every switch off": SpeedSettings(channels_last=False, fused_optimizers=False),
    "ours": SpeedSettings(),
    "ours, bfloat16": SpeedSettings(autocast="bfloat16"),
    "ours, bfloat16, recompute": SpeedSettings(autocast="bfloat16", recompute=True),
    "ours, bfloat16, graphs": SpeedSettings(autocast="bfloat16", graphs=True),
    "ours, bfloat16, compile": SpeedSettings(autocast="bfloat16", compile=True),
    "ours, bfloat16, compile, graphs": SpeedSettings(autocast="bfloat16", compile=True, graphs=True),
}
WARM_UP = 6
"""Steps of each before it is timed on a GPU, by which graphs are recorded."""


class Pixels:
    """Random images and labels on the host, as the published loaders and as our streams give them."""

    def __init__(self, count: int, *, pinned: bool) -> None:
        random = torch.Generator().manual_seed(0)
        size = (count, 3, CROP, CROP)
        self.images, self.unlabelled = (50 * torch.randn(size, generator=random) for _ in range(2))
        self.labels, self.real = (torch.randint(0, CLASSES, (count, CROP, CROP), generator=random) for _ in range(2))
        self.labels[:, :20] = IGNORED
        if pinned:
            # As both have it on a GPU.
            for name, tensor in vars(self).items():
                setattr(self, name, tensor.pin_memory())

    def batch(self, device: torch.device, memory_format: torch.memory_format) -> Batch:
        """What our step takes."""
        images, unlabelled, labels, real = (
            tensor.to(device, non_blocking=True) for tensor in (self.images, self.unlabelled, self.labels, self.real)
        )
        return Batch(
            images=images.contiguous(memory_format=memory_format),
            labels=labels,
            real_labels=real,
            unlabelled=unlabelled.contiguous(memory_format=memory_format),
            unlabelled_valid=torch.ones_like(labels, dtype=torch.bool),
            unlabelled_labels=labels,
        )


def our_step(pixels: Pixels, speed: SpeedSettings, device: torch.device) -> Callable[[], None]:
    """A program that makes one step; its batch is moved to the device each time, as the published one's is."""
    trainer, segmenter = replace(TRAINER, speed=speed), build_segmenter(NETWORK, CLASSES).to(device)
    method = build_method(METHOD, trainer, segmenter, classes=CLASSES, ignore_index=IGNORED, world=World())
    return lambda: method.step(0, [pixels.batch(device, speed.memory_format)])


def work_of_a_step(pixels: Pixels) -> Work:
    """Counted on the meta device, in the 4 bytes a number of the plain step."""
    meta = torch.device("meta")
    step = our_step(pixels, SPEEDS["ours, every switch off"], meta)
    with counted() as work:
        step()
    return work


def published_step(peer: Peer, pixels: Pixels, device: torch.device, *, autocast: bool) -> Callable[[], None]:
    """A program that makes one step of the published implementation."""
    step = PublishedStep(peer, CLASSES, device, autocast=autocast)
    # Its loaders give labels as floats.
    labels, real = pixels.labels.float(), pixels.real.float()

    def run() -> None:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):  # as its script sets it
            step(pixels.images, labels, real, pixels.unlabelled)

    return run


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", type=Path)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int)
    asked = parser.parse_args()
    device, on_gpu = torch.device(asked.device), asked.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        sys.exit("error: --device is cuda, but PyTorch finds no GPU")
    count, rounds = (10, asked.rounds or 20) if on_gpu else (1, asked.rounds or 5)
    torch.manual_seed(0)
    peer, pixels = Peer(asked.peer), Pixels(count, pinned=on_gpu)
    builders: dict[str, Callable[[], Callable[[], None]]] = {
        "published": lambda: published_step(peer, pixels, device, autocast=False)
    }
    if on_gpu:
        builders["published, autocast"] = lambda: published_step(peer, pixels, device, autocast=True)
    for name, speed in SPEEDS.items():
        # On a CPU it takes minutes to start and gains nothing.
        if on_gpu or not (speed.compile or speed.recompute or speed.graphs):
            builders[name] = lambda speed=speed: our_step(pixels, speed, device)
    print(f"{machine()}\n{count} + {count} images of {CROP} x {CROP}, {CLASSES} classes\n")
    settle = torch.cuda.synchronize if on_gpu else lambda: None
    work = work_of_a_step(pixels)
    rates = ceilings(work, device)
    programs = {name: seen_alone(name, build) if on_gpu else build() for name, build in builders.items()}
    timings = interleaved(programs, rounds=rounds, warmup=3, settle=settle)
    print(f"\n{timings.table('ms' if on_gpu else 's')}")
    for name, speed in SPEEDS.items():
        if name in programs:
            print(f"{name}: {work.flops / rates[speed.autocast] / timings.median(name):.0%} of the matmul rate")
    if not on_gpu:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"peak RSS of this process, which holds all of them: {peak:.1f} GiB")


def seen_alone(name: str, build: Callable[[], Callable[[], None]]) -> Callable[[], None]:
    """The program, once it has warmed up on a GPU; prints what it takes, so that a run that is cut tells something."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before, started = torch.cuda.memory_allocated(), time.perf_counter()
    step = build()
    for _ in range(WARM_UP):
        step()
    torch.cuda.synchronize()
    warmed, took = time.perf_counter(), []
    for _ in range(5):
        step()
        took.append(time.perf_counter())
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - warmed) / len(took)
    peak = (torch.cuda.max_memory_allocated() - before) / 2**30
    print(
        f"{name:32} {1e3 * seconds:8.2f} ms a step, {peak:5.2f} GiB at its peak, "
        f"{1e3 * (took[0] - warmed):7.2f} ms of the host for the first, {warmed - started:5.1f} s to start",
        flush=True,
    )
    return step


def ceilings(work: Work, device: torch.device) -> dict[str | None, float]:
    """FLOP/s of matrix products, by what `autocast` asks for; prints them beside what a step needs."""
    print(f"a step: {work.flops / 1e12:.2f} TFLOP, {work.moved / 2**30:.1f} GiB moved in float32 without fusion")
    bandwidth, rates = copy_rate(device), {}
    for autocast, dtype, width in ((None, torch.float32, 4), ("bfloat16", torch.bfloat16, 2)):
        rates[autocast] = matmul_rate(device, dtype)
        print(
            f"{str(dtype).removeprefix('torch.'):9} matmul {rates[autocast] / 1e12:.3g} TFLOP/s, "
            f"copy {bandwidth / 1e9:.3g} GB/s: arithmetic {work.flops / rates[autocast]:.4g} s, "
            f"traffic {work.moved * width / 4 / bandwidth:.4g} s",
            flush=True,
        )
    return rates


if __name__ == "__main__":
    main()
