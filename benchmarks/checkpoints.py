"""How long a training stands still for a checkpoint, and what that costs in S3, beside a folder.

    python benchmarks/checkpoints.py [s3://bucket/prefix] [--mib 512] [--rounds 3] [--device cuda]

Where the storage is comes from the environment (AWS_ENDPOINT_URL and the like); what is put there is removed. Without a
bucket at hand, `rclone serve s3 FOLDER --auth-key KEY,SECRET` is one: its folders are buckets.
"""

import argparse
import itertools
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import source  # noqa: F401
import torch
from timing import in_turn, interleaved, machine

from advseg.trainers.checkpoint import host_copy, save_checkpoint
from advseg.trainers.writing import Writing

KEY = "benchmark/checkpoints/step-00000001"
TENSORS = 64


def measure_standing(mib: int, rounds: int, device: torch.device) -> None:
    """Print for how long a training stands still that saves so many MiB: until they are written, or until copied."""
    state = {str(number): torch.randn(mib * 2**18 // TENSORS, device=device) for number in range(TENSORS)}
    writing = Writing()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def beside() -> None:
            copy = host_copy(state, device)
            writing.begin(lambda: save_checkpoint(folder, 1, copy))

        def written() -> None:
            """What is begun in one round is none of the next one's."""
            writing.wait()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        def standing(save: Callable[[], object]) -> float:
            written()
            started = time.perf_counter()
            save()
            return time.perf_counter() - started

        saves = {"written": lambda: save_checkpoint(folder, 1, state), "copied, written beside": beside}
        timings = in_turn({each: partial(standing, save) for each, save in saves.items()}, rounds=rounds)
        written()
    print(f"{mib} MiB on {device.type}: a training stands still until it is\n{timings.table('ms')}", flush=True)


def measure_store(address: str, mib: int, rounds: int) -> None:
    """Print what a checkpoint of so many MiB costs there."""
    from advseg.platform.storage.opening import open_store

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
    parser.add_argument("address", nargs="?")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    asked = parser.parse_args()
    print(machine())
    measure_standing(asked.mib, asked.rounds, torch.device(asked.device))
    if asked.address:
        measure_store(asked.address, asked.mib, asked.rounds)


if __name__ == "__main__":
    main()
