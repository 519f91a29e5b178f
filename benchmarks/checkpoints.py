"""What a checkpoint costs in S3, beside a folder: to keep one, and to bring one back, each verified.

    python benchmarks/checkpoints.py s3://bucket/prefix [--mib 512] [--rounds 3]

Where the storage is comes from the environment (AWS_ENDPOINT_URL and the like); what is put there is removed. Without a
bucket at hand, `rclone serve s3 FOLDER --auth-key KEY,SECRET` is one: its folders are buckets.
"""

import argparse
import itertools
import shutil
import tempfile
from pathlib import Path

import source  # noqa: F401
import torch
from timing import interleaved, machine

from advseg.platform.storage.opening import open_store
from advseg.trainers.checkpoint import save_checkpoint

KEY = "benchmark/checkpoints/step-00000001"


def measure(address: str, mib: int, rounds: int) -> None:
    """Print what a checkpoint of so many MiB costs there."""
    state = {"method": {"weights": torch.randn(mib * 2**18)}}
    store, numbers = open_store(address), itertools.count()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        saved = save_checkpoint(folder / "saved", 1, state)

        def save() -> None:
            save_checkpoint(folder / "again", 1, state)

        def keep() -> None:
            store.put(saved, KEY)

        def bring() -> None:
            place = folder / f"brought-{next(numbers)}"
            store.get(KEY, place)
            shutil.rmtree(place)

        programs = {"saved in a folder": save, "kept in S3": keep, "brought back": bring}
        try:
            timings = interleaved(programs, rounds=rounds)
        finally:
            store.remove(KEY)
    print(f"{mib} MiB\n{timings.table('s')}")
    for each in programs:
        print(f"{each:17}  {timings.median(each) / (mib * 2**20 / 1e9):9.2f} s a GB")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(machine())
    measure(asked.address, asked.mib, asked.rounds)


if __name__ == "__main__":
    main()
