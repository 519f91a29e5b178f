"""What a pack in S3 costs while a machine does not have it yet, beside the same pack in a folder.

    python benchmarks/cold_start.py s3://bucket/prefix [--images 480]

The images are those of input.py, 3 x 375 x 500 and their masks, about 0.75 MB each in a pack. An epoch draws every
sample once as a training does, with a thread that draws ahead: cold with an empty cache, then once more. Where the
storage is comes from the environment (AWS_ENDPOINT_URL and the like); what is put there is removed. Without a bucket at
hand, `rclone serve s3 FOLDER --auth-key KEY,SECRET` is one: its folders are buckets.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import source  # noqa: F401
import torch
from input import BATCH, batch_of, write_dataset
from timing import machine

from advseg.platform.storage.cache import Cache
from advseg.platform.storage.opening import open_store
from advseg.platform.storage.packs import inspect_dataset, open_dataset
from advseg.trainers.ahead import ahead
from advseg.trainers.data.dataset import Dataset, DatasetSettings
from advseg.trainers.data.packing import write_pack


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """Seconds from opening a dataset."""

    first: float
    """To the first batch."""
    whole: float
    """To the last one."""


def epoch(open_it: Callable[[], Dataset]) -> Epoch:
    """Open a dataset and draw each sample once."""
    started = time.perf_counter()
    dataset = open_it()
    draw, times = batch_of(dataset), []
    with closing(ahead(draw, range(len(dataset.labelled) // BATCH), 1)) as batches:
        for _ in batches:
            times.append(time.perf_counter() - started)
    return Epoch(first=times[0], whole=times[-1])


def epochs(there: DatasetSettings, local: DatasetSettings, folder: Path) -> Iterator[tuple[str, Epoch]]:
    """Those that are compared, by name."""
    cache = Cache(folder)
    yield "folder", epoch(lambda: open_dataset(local))
    yield "S3, cold", epoch(lambda: open_dataset(there, cache))
    yield "S3, warm", epoch(lambda: open_dataset(there, cache))

    def all_first() -> Dataset:
        fetched = inspect_dataset(there, Cache(folder / "first")).dataset
        assert fetched
        return fetched

    yield "S3, all fetched and checked first", epoch(all_first)


def measure(address: str, images: int, rounds: int) -> None:
    """Print what a pack of so many images costs there."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder, store = Path(name), open_store(address)
        plain = write_dataset(folder / "voc", images)
        card = write_pack(folder / "pack", open_dataset(plain), plain)
        print(f"{images} images, {card.bytes / 1e6:.0f} MB, {len(card.shards['labelled'])} shards\n")
        local = replace(plain, pack=str(folder / "pack"))
        store.put(folder / "pack", "cold-start")
        try:
            for number in range(rounds):
                there = replace(plain, pack=f"{store.address}/cold-start")
                found = dict(epochs(there, local, folder / f"cache {number}"))
                for which, each in found.items():
                    ratio = each.whole / found["folder"].whole
                    print(f"{which:34} first batch {each.first:6.2f} s   epoch {each.whole:6.2f} s   {ratio:5.2f}")
                print()
        finally:
            store.remove("cold-start")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(machine())
    measure(asked.address, asked.images, asked.rounds)


if __name__ == "__main__":
    main()
