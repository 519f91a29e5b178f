"""Input pipeline: images per core-second, from disk to normalised float batches, VOC-sized, random scale, crop 321.

    python benchmarks/input.py [PEER]
    python benchmarks/input.py --ahead 4       four threads against four processes that draw ahead, by the clock

The images are drawn here (smooth colours with noise, which JPEG packs as photographs: about 100 kB each), 375 x 500 and
500 x 375, masks as grey PNGs. Each program draws the same number of samples in one thread, files in the page cache,
and CPU seconds of the whole process count. With PEER, a clone of hfslyc/AdvSemiSeg, its loader is the first one.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import source  # noqa: F401
import torch
from peer import Peer
from PIL import Image
from timing import in_turn, interleaved, machine

from advseg.models.architectures import CAFFE_MEANS
from advseg.trainers.batches import Batches
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.data.classes import VOC_CLASSES
from advseg.trainers.data.dataset import Dataset, DatasetSettings
from advseg.trainers.data.images import IGNORE_INDEX, voc_palette
from advseg.trainers.data.jitter import JitterSettings
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.data.packing import write_pack
from advseg.trainers.data.samples import FileSample
from advseg.trainers.data.scaled import ScaledSamples
from advseg.trainers.data.streams import Stream
from advseg.trainers.distributed import World
from advseg.trainers.methods.method import Wants
from advseg.trainers.settings import TrainerSettings
from advseg.trainers.speed import SpeedSettings

COUNT, BATCH, CROP = 120, 10, 321
AUGMENTATION = AugmentationSettings(crop=(CROP, CROP), scale=(0.5, 1.5), mirror=True)


def write_dataset(root: Path, count: int = COUNT) -> DatasetSettings:
    """Images, masks and lists in the layout of VOC."""
    rng = np.random.default_rng(0)
    lists = root / "ImageSets" / "Segmentation"
    for folder in (root / "JPEGImages", root / "SegmentationClassAug", lists):
        folder.mkdir(parents=True)
    for number in range(count):
        height, width = (375, 500) if number % 4 else (500, 375)
        coarse = rng.integers(0, 256, (height // 25, width // 25, 3)).astype(np.uint8)
        noise = rng.normal(0, 12, (height, width, 3))
        image = (cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + noise).clip(0, 255)
        Image.fromarray(image.astype(np.uint8)).save(root / "JPEGImages" / f"{number:04}.jpg", quality=90)
        blobs = rng.integers(0, 21, (height // 75, width // 75)).astype(np.uint8)
        mask = cv2.resize(blobs, (width, height), interpolation=cv2.INTER_NEAREST)
        Image.fromarray(mask).save(root / "SegmentationClassAug" / f"{number:04}.png")
    ids = [f"{number:04}\n" for number in range(count)]
    (lists / "train.txt").write_text("".join(ids[:-1]))
    (lists / "val.txt").write_text(ids[-1])
    return DatasetSettings(root=root, labelled="train", unlabelled=None, validation="val")


def listed_dataset(settings: DatasetSettings) -> Dataset:
    """That dataset, of which no file is read: to open it reads JPEGs by a package that bare GPU machines lack."""
    names = (settings.root / "ImageSets/Segmentation/train.txt").read_text().split()
    samples = tuple(
        FileSample(
            id=name,
            image=settings.root / f"JPEGImages/{name}.jpg",
            mask=settings.root / f"SegmentationClassAug/{name}.png",
        )
        for name in names
    )
    return Dataset(
        labelled=samples,
        unlabelled=(),
        validation=samples[:1],
        classes=VOC_CLASSES,
        palette=voc_palette(len(VOC_CLASSES)),
        ignore_index=IGNORE_INDEX,
        digest="listed",
    )


def batch_of(dataset: Dataset) -> Callable[[int], torch.Tensor]:
    """Draws the normalised images of a step, as training does."""
    stream = Stream(
        dataset.labelled,
        digest=dataset.digest,
        split="labelled",
        seed=0,
        batch_size=BATCH,
        augmentation=AUGMENTATION,
        ignore_index=dataset.ignore_index,
        scaled=ScaledSamples(None),
    )

    def draw(step: int) -> torch.Tensor:
        crops = stream.crops(step, range(BATCH))
        return CAFFE_MEANS(crops.images.contiguous()).mul_(crops.valid.unsqueeze(1))

    return draw


def our_batches(dataset: Dataset) -> Callable[[], object]:
    """A program that draws every sample once."""
    draw = batch_of(dataset)

    def draw_all() -> None:
        for step in range(COUNT // BATCH):
            assert draw(step).shape == (BATCH, 3, CROP, CROP)

    return draw_all


class Ahead:
    """Batches that threads or processes draw ahead of a training that waits for nothing else."""

    def __init__(self, dataset: Dataset, jitter: JitterSettings, speed: SpeedSettings) -> None:
        settings = TrainerSettings(steps=1, augmentation=replace(AUGMENTATION, jitter=jitter), speed=speed)
        batches = Batches(settings, dataset, lambda _: Wants(), CAFFE_MEANS, world=World(), device=torch.device("cpu"))
        self._depth = max(speed.prefetch, speed.workers)
        self._drawn = batches.drawn_ahead(range(10**6))

    def seconds_a_sample(self) -> float:
        """Of as many as there are, after those that were drawn while others had their turn."""
        for _ in range(self._depth + 1):
            next(self._drawn)
        started = time.perf_counter()
        for _ in range(COUNT // BATCH):
            next(self._drawn)
        return (time.perf_counter() - started) / (COUNT // BATCH * BATCH)

    def close(self) -> None:
        """End the threads and processes."""
        self._drawn.close()


def compare_ahead(root: Path, count: int, rounds: int) -> None:
    """Print the time by the clock of each way."""
    settings = write_dataset(root / "voc")
    files = listed_dataset(settings)
    write_pack(root / "pack", files, settings)
    pack = open_dataset(replace(settings, pack=str(root / "pack")))
    jitter = JitterSettings(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1)
    sources = {"pack": (pack, JitterSettings()), "files": (files, JitterSettings()), "pack, colours": (pack, jitter)}
    for name, (dataset, colours) in sources.items():
        ways = {
            "one thread": Ahead(dataset, colours, SpeedSettings(prefetch=1)),
            f"{count} threads": Ahead(dataset, colours, SpeedSettings(prefetch=count)),
            f"{count} processes": Ahead(dataset, colours, SpeedSettings(prefetch=count, workers=count)),
        }
        timings = in_turn({way: ahead.seconds_a_sample for way, ahead in ways.items()}, rounds=rounds)
        for ahead in ways.values():
            ahead.close()
        print(f"\n{name}, a sample\n{timings.table()}", flush=True)


def loader_batches(dataset: torch.utils.data.Dataset) -> Callable[[], object]:
    """A program that draws as many through a DataLoader in this process."""

    def draw() -> None:
        loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)
        for batch in loader:
            assert batch[0].shape[1:] == (3, CROP, CROP)

    return draw


class PillowDataset(torch.utils.data.Dataset):
    """The usual one: PIL images, scaled and cropped by PIL."""

    def __init__(self, dataset: Dataset) -> None:
        self.samples = [(sample.image, sample.mask) for sample in dataset.labelled]  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        image, mask = (Image.open(path) for path in self.samples[index])
        image, factor = image.convert("RGB"), np.random.uniform(0.5, 1.5)
        size = round(factor * image.width), round(factor * image.height)
        image, mask = image.resize(size, Image.Resampling.BILINEAR), mask.resize(size, Image.Resampling.NEAREST)
        left, top = (np.random.randint(max(1, side - CROP + 1)) for side in size)
        box = (left, top, left + CROP, top + CROP)
        pixels, ids = np.array(image.crop(box), np.float32) - CAFFE_MEANS.mean, np.array(mask.crop(box))
        if np.random.rand() < 0.5:
            pixels, ids = pixels[:, ::-1], ids[:, ::-1]
        return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32)), torch.from_numpy(ids.copy()).long()


def published_dataset(peer: Peer, root: Path, least: int | None = None) -> torch.utils.data.Dataset:
    """The published loader's dataset of the same files, over and over until there are so many."""
    means = np.array(CAFFE_MEANS.mean[::-1], np.float32)
    return peer.voc.VOCDataSet(
        str(root), str(root / "ImageSets/Segmentation/train.txt"), least, crop_size=(CROP, CROP), mean=means
    )


def programs(root: Path, peer: Path | None) -> Iterator[tuple[str, Callable[[], object]]]:
    """All of them by name."""
    settings = write_dataset(root / "voc")
    files = listed_dataset(settings)
    write_pack(root / "pack", files, settings)
    if peer:
        yield "published loader", loader_batches(published_dataset(Peer(peer), root / "voc"))
    yield "PIL and DataLoader", loader_batches(PillowDataset(files))
    yield "ours, files", our_batches(files)
    yield "ours, pack", our_batches(open_dataset(replace(settings, pack=str(root / "pack"))))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ahead", type=int, help="threads, and processes, to compare by the clock")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if asked.ahead:
            print(machine())
            compare_ahead(Path(folder), asked.ahead, asked.rounds)
            return
        drawn = dict(programs(Path(folder), asked.peer))
        sizes = [path.stat().st_size for path in Path(folder).rglob("*.jpg")]
        print(f"{machine()}\n{COUNT} images, {sum(sizes) / len(sizes) / 1000:.0f} kB each, batches of {BATCH}\n")
        timings = interleaved(drawn, rounds=asked.rounds, clock=time.process_time)
    print(timings.table())
    for name in drawn:
        print(f"{name:20} {(COUNT - 1) / timings.median(name):7.0f} images per core-second")


if __name__ == "__main__":
    main()
