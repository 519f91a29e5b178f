"""Step time of the demo's training: in a bare process, on one Ray Train worker; under torchrun, on two workers.

    python benchmarks/workers.py [--rounds 3]

All have one thread a process, as Ray gives a worker of one CPU. Each runs anew in every round, one after another, and
the median time from step to step counts; starting up does not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from advseg.platform.cluster.submit import RAY_TRAIN

STEPS = 60
PAIRS = {"bare": "one Ray Train worker", "torchrun, two processes": "two Ray Train workers"}


def run(data: Path, result: Path, rank: int, size: int) -> None:
    """One worker's training; the leading one writes its step time to a file."""
    import torch
    from demo_task import timed_training

    from advseg.trainers.distributed import World
    from advseg.trainers.reporter import RecordingReporter

    torch.set_num_threads(1)
    world = World(rank=rank, size=size)
    with tempfile.TemporaryDirectory() as folder:
        seconds = timed_training(data, Path(folder), STEPS, world, RecordingReporter())
    if world.leads:
        result.write_text(json.dumps(seconds))


def run_alone(data: Path, result: Path) -> None:
    """Bare, or one of torchrun's processes."""
    from torch import distributed

    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1:
        distributed.init_process_group("gloo")
    run(data, result, int(os.environ.get("RANK", "0")), size)
    if size > 1:
        distributed.destroy_process_group()


def run_on_ray(data: Path, result: Path, workers: int) -> None:
    """On Ray Train workers of a Ray instance of its own, which ends with this process."""
    import ray
    from ray import train
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    def worker() -> None:
        context = train.get_context()
        sys.path.insert(0, str(Path(__file__).parent))
        run(data, result, context.get_world_rank(), context.get_world_size())

    with tempfile.TemporaryDirectory(prefix="advseg-bench-", dir="/tmp") as temp:
        # Ray's workers run functions of this file, which they find by its folder.
        paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=temp,
            runtime_env={"env_vars": {"PYTHONPATH": paths}},
        )
        try:
            TorchTrainer(
                worker,
                torch_config=TorchConfig(backend="gloo"),
                scaling_config=ScalingConfig(num_workers=workers),
                run_config=RunConfig(name=f"bench-{time.time_ns()}", storage_path=temp),
            ).fit()
        finally:
            ray.shutdown()


def measured(name: str, data: Path, folder: Path) -> float:
    """Median seconds of a step in a new process."""
    result = folder / "seconds.json"
    result.unlink(missing_ok=True)
    this = [str(Path(__file__)), "--data", str(data), "--result", str(result)]
    start = {
        "bare": [sys.executable, *this, "--role", "alone"],
        "torchrun, two processes": [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(*this, "--role", "alone"),
        ],
        "one Ray Train worker": [sys.executable, *this, "--role", "ray", "--workers", "1"],
        "two Ray Train workers": [sys.executable, *this, "--role", "ray", "--workers", "2"],
    }
    environment = {**os.environ, **RAY_TRAIN, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(start[name], env=environment, capture_output=True, text=True)
    if not result.exists():
        sys.exit(f"error: {name} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(result.read_text())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--role", choices=["alone", "ray"], help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.role == "alone":
        return run_alone(asked.data, asked.result)
    if asked.role == "ray":
        return run_on_ray(asked.data, asked.result, asked.workers)
    from demo_task import write_data
    from timing import in_turn, machine

    print(machine())
    with tempfile.TemporaryDirectory() as temp:
        data = write_data(Path(temp) / "shapes")
        for base, ours in PAIRS.items():
            measures = {name: partial(measured, name, data, Path(temp)) for name in (base, ours)}
            timings = in_turn(measures, rounds=asked.rounds)
            print(f"\na step\n{timings.table()}\n{ours} takes {1 / timings.speedup(ours):.3f} of the time")
    return None


if __name__ == "__main__":
    main()
