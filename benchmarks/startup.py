"""How long one waits: for `advseg --help`, and from `advseg submit` to the first step on a warm local cluster.

    python benchmarks/startup.py [--rounds 3]

A job of one Ray Train worker on the demo's data, after one that warmed the cluster up. Services are started for it in a
folder of their own, and ended.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil
import yaml
from demo_task import demo_spec, write_data
from timing import machine

from advseg.platform.services.belonging import members
from advseg.platform.services.records import read_records
from advseg.platform.services.servers import RAY

PROCESSES = {
    "Ray's supervisor of the job starts": "ray::JobSupervisor",
    "the driver's process starts": "advseg.jobs.train_on_ray",
    "Ray Train's controller starts": "ray::TrainController",
    "the worker's process starts": "ray::RayTrainWorker",
}
PATIENCE_S = 120


def advseg(*arguments: str) -> float:
    """Run the command; return the seconds it took."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "advseg.jobs.cli", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: advseg {arguments[0]} ended with {done.returncode}: {done.stderr}")
    return time.perf_counter() - started


def first_step(spec: Path, name: str, home: Path) -> dict[str, float]:
    """Submit a job and return seconds from then to each of its milestones."""
    begun = time.time()
    seconds = {"submit returns": advseg("submit", str(spec), "--set", f"name={name}")}
    metrics = home / "runs" / name / "0" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().endswith("\n")):
        if time.time() - begun > PATIENCE_S:
            sys.exit(f"error: job {name} made no step in {PATIENCE_S} s: see `advseg job follow` and {home}")
        time.sleep(0.1)
    seconds |= births(begun, home)
    reported = json.loads(metrics.read_text().splitlines()[0])["timestamp"] / 1e3
    # What a job does at its end would slow the start of the next.
    advseg("job", "stop", f"{name}-1")
    return {**seconds, "the first step and its report are done": reported - begun}


def births(begun: float, home: Path) -> dict[str, float]:
    """Seconds from `begun` to the start of each of the processes that run now; they are looked for but once."""
    # The machine's boot is known to psutil in whole seconds only; here it is exact.
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    found: dict[str, float] = {}
    for process in members(home, RAY, read_records(home)[RAY]):
        with contextlib.suppress(psutil.Error):
            line, born = " ".join(process.cmdline()), process.create_time() - psutil.boot_time() + booted - begun
            for milestone, part in PROCESSES.items():
                if part in line and born > 0 and not line.startswith("/bin/sh"):
                    found[milestone] = born
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(machine())
    helps = [advseg("--help") for _ in range(5)]
    print(f"\nadvseg --help: {median(helps):.2f} s ({min(helps):.2f} to {max(helps):.2f})")
    with tempfile.TemporaryDirectory() as temp:
        home = Path(temp) / "home"
        home.mkdir()
        os.environ["ADVSEG_HOME"] = str(home)
        document = demo_spec(write_data(Path(temp) / "shapes"), "job=train", "sweep=null").model_dump(mode="json")
        document["trainer"] |= {"steps": 1000, "evaluate_every": 1}
        spec = Path(temp) / "spec.yaml"
        spec.write_text(yaml.safe_dump(document))
        try:
            advseg("up")
            first_step(spec, "warm-up", home)
            rounds = [first_step(spec, f"round-{number}", home) for number in range(asked.rounds)]
        finally:
            advseg("down")
    print("\nseconds after `advseg submit` began, median")
    medians = {name: median(times[name] for times in rounds if name in times) for name in rounds[0]}
    for milestone, seconds in sorted(medians.items(), key=lambda item: item[1]):
        print(f"  {seconds:6.2f}  {milestone}")


if __name__ == "__main__":
    main()
