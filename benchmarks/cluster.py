"""What a cluster costs, and how soon it is back: nodes that share nothing, S3, PostgreSQL and MLflow, in small.

    python benchmarks/cluster.py [--rounds 3] [--mib 256] [--images 480]

All run on this machine, as in the tests (tests/integration/helpers), which needs root on Linux. Seconds are those from
submitting a training of two workers on two nodes, or from what befell it, to its next report.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import checkpoints
import cold_start
import in_small  # noqa: F401
import yaml
from command import Command
from far import data, driving, far_team, join, workers
from machines import hindrance
from small_sweep import small_sweep
from team import Team
from team_services import BUCKET
from timing import machine
from waiting import wait_for

from advseg.platform.storage.opening import open_store
from advseg.platform.storage.store import Store
from advseg.platform.workers.checkpoints import newest_sealed
from advseg.platform.workers.heartbeat import read_beat
from advseg.platform.workers.lease import FOLDER

EVERY = 20
NODES = ("w1", "w2", "w3")
WORKER = "ray::RayTrainWorker"
TRAIN_JOB = "advseg.jobs.train_on_ray"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A cluster, and how to train on it."""

    far: Team
    advseg: Command
    store: Store
    folder: Path

    def submit(self, name: str) -> Store:
        """Submit a training that does not end by itself; what lasts of it."""
        document: dict[str, Any] = small_sweep(
            data(self.far),
            name,
            trainer={"steps": 10**6, "evaluate_every": EVERY},
            sweep={},
            storage=self.store.address,
            resources={"workers": 2, "placement": "spread"},
        )
        del document["sweep"]
        (path := self.folder / f"{name}.yaml").write_text(yaml.safe_dump({**document, "job": "train"}))
        self.advseg("submit", path)
        return self.store.at(f"{name}/single")

    def stop(self, name: str) -> None:
        """What it does at its end would slow the start of the next."""
        self.advseg("job", "stop", name)

    def begun(self, name: str) -> float:
        """Seconds from submitting a training to its first report."""
        began = time.monotonic()
        own = self.submit(name)
        reported_after(own, 0)
        seconds = time.monotonic() - began
        self.stop(name)
        return seconds

    def recovered(self, name: str, lose: Callable[["Scene", str], object]) -> float:
        """Seconds in which a training on two nodes is back, having lost something on the one that does not drive it."""
        own = self.submit(name)
        saved = wait_for(lambda: (sealed := newest_sealed(own)) and sealed.step >= 2 * EVERY and sealed).step
        at_work = {node for node in workers(self.far) if self.far.nodes.machines[node].processes(WORKER)}
        lost = min(at_work - {driving(self.far, TRAIN_JOB)})
        began = time.monotonic()
        lose(self, lost)
        told = [f"lost for {time.monotonic() - began:.1f} s"]
        if not driving(self.far, TRAIN_JOB):
            self.submit(name)
        wait_for(lambda: len(own.keys(FOLDER)) == 2)
        told.append(f"begun again after {time.monotonic() - began:.1f} s")
        reported_after(own, saved + EVERY, attempt=2)
        seconds = time.monotonic() - began
        print(f"{name}: {', '.join(told)}, reported after {seconds:.1f} s", flush=True)
        self.stop(name)
        for node in NODES:
            if not self.far.nodes.has_raylet(node):
                join(self.far, node)
        return seconds


def reported_after(own: Store, step: int, attempt: int = 1) -> None:
    """Wait until an attempt at a training has reported beyond a step."""
    wait_for(lambda: (beat := read_beat(own)) and beat.attempt >= attempt and beat.step > step)


def kill_the_head(scene: Scene, lost: str) -> None:
    """And all that ran on its cluster; the administrator has another at once."""
    scene.far.nodes.kill_all()
    scene.far.nodes.start_head()
    for name in NODES:
        join(scene.far, name)


LOSSES: dict[str, Callable[[Scene, str], object]] = {
    "a worker's process killed": lambda scene, lost: scene.far.nodes.machines[lost].kill(WORKER),
    "a raylet killed": lambda scene, lost: scene.far.nodes.kill_raylet(lost),
    "a node's power cut": lambda scene, lost: scene.far.nodes.cut(lost),
    "the head killed, with all": kill_the_head,
}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--images", type=int, default=480)
    asked = parser.parse_args()
    print(machine())
    if reason := hindrance():
        print(f"no cluster in small: {reason}")
        return
    with tempfile.TemporaryDirectory() as folder, far_team() as far:
        os.environ |= far.environment("alice")
        for name in NODES:
            join(far, name)
        scene = Scene(
            far=far,
            advseg=Command(Path(folder), far.environment("alice")),
            store=open_store(f"s3://{BUCKET}/runs"),
            folder=Path(folder),
        )
        seconds = {"submitted, nodes are new": scene.begun("cold")}
        warm = [scene.begun(f"warm-{number}") for number in range(asked.rounds)]
        seconds["submitted once more"] = median(warm)
        for number, (what, lose) in enumerate(LOSSES.items()):
            print(what)
            seconds[what] = median(scene.recovered(f"lost-{number}-{again}", lose) for again in range(asked.rounds))
        print("\nmedian seconds to the next report, and beside a submission")
        for what, each in seconds.items():
            print(f"{what:30} {each:6.1f} {each / seconds['submitted once more']:6.2f}")
        print("\na checkpoint")
        checkpoints.measure(f"s3://{BUCKET}/benchmark", asked.mib, asked.rounds)
        print("\na pack")
        cold_start.measure(f"s3://{BUCKET}/benchmark", asked.images, asked.rounds)


if __name__ == "__main__":
    main()
