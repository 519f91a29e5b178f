"""One of two workers that share the golden batches, half a batch each; the leading one writes what both found.

python golden_workers.py <directory> <device> <rank>
"""

import importlib.util
import json
import sys
from dataclasses import fields
from pathlib import Path

# advseg may not be installed on a machine that has a GPU.
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import source  # noqa: F401
from torch import distributed as dist

from advseg.trainers.distributed import World
from advseg.trainers.methods.method import Batch
from advseg.trainers.speed import SpeedSettings

CASE, SIZE, STEPS = "batch_norm_frozen", 2, 5

_spec = importlib.util.spec_from_file_location("test_golden", Path(__file__).parent / "test_golden.py")
assert _spec and _spec.loader
golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden)


def main(directory: str, device: str, rank: str) -> None:
    world = World(rank=int(rank), size=SIZE)
    dist.init_process_group("gloo", store=dist.FileStore(f"{directory}/store", SIZE), rank=world.rank, world_size=SIZE)
    method = golden.method_of(golden.CASES[CASE]["settings"], SpeedSettings(), device, world)
    found = []
    for step in range(STEPS):
        whole = golden.batch_of(CASE, step, golden.CASES[CASE]["settings"].get("img_std", 50.0), device)
        parts = {field.name: getattr(whole, field.name) for field in fields(Batch)}
        share = Batch(**{name: part[world.rank :: SIZE] for name, part in parts.items() if part is not None})
        method.step(step, [share])
        found.append(method.meter.take())
    if world.leads:
        Path(directory, "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
