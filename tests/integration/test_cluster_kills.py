"""A cluster in which one thing after another is killed at random: its sweep ends as one that was left alone."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from command import Command
from far import data, driving, far_team, hold, join, release, workers
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from small_sweep import small_sweep
from team import Team
from team_services import BUCKET
from waiting import wait_for

from advseg.platform.base.keys import METRIC
from advseg.platform.ledger.reading import read_spec, read_sweep
from advseg.platform.storage.opening import open_store
from advseg.platform.storage.store import Store
from advseg.platform.tracking.runs import runs_by_key
from advseg.platform.workers.heartbeat import read_beat
from advseg.platform.workers.lease import FOLDER

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]  # Seven of them, and what is lost begins again: eight minutes.

TRIALS, EVERY = 2, 4
NODES = ("w1", "w2")
SWEEP_JOB = "advseg.jobs.sweep"
TRIAL = "ray::ResourceTrainable"
"""What Ray calls the process of a trial."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The sweep and the cluster that it runs on."""

    name: str
    far: Team
    store: Store
    advseg: Command
    rng: random.Random

    @property
    def keys(self) -> list[str]:
        return [f"{self.name}/{number}" for number in range(TRIALS)]

    def go_on_to(self, step: int) -> None:
        """The trials go on, and stop at that step."""
        hold(self.far, *self.keys, step=step)

    def wait_at(self, step: int) -> None:
        """Wait until all of them are there, between two checkpoints."""
        for key in self.keys:
            wait_for(lambda key=key: (beat := read_beat(self.store.at(key))) and beat.step >= step)

    def resume(self) -> None:
        """Go on with the sweep, as soon as Ray has noticed that its driver is gone."""
        wait_for(lambda: "submitted" in self.advseg("sweep", "resume", self.name).stdout)

    def lose(self, name: str, how: Callable[[str], None]) -> None:
        """Lose a node, and have it back with what is on its disk."""
        was_driving = driving(self.far, SWEEP_JOB) == name
        how(name)
        join(self.far, name)
        if was_driving:
            self.resume()

    def told(self, what: str) -> int:
        """How often drivers have said something."""
        logs = (machine.disk.glob("ray/session_2*/logs/job-driver-*") for machine in self.far.nodes.machines.values())
        return sum(log.read_text().count(what) for found in logs for log in found)


def kill_a_raylet(scene: Scene, step: int) -> None:
    scene.lose(scene.rng.choice(NODES), scene.far.nodes.kill_raylet)


def cut_the_power(scene: Scene, step: int) -> None:
    scene.lose(scene.rng.choice(NODES), scene.far.nodes.cut)


def kill_a_worker(scene: Scene, step: int) -> None:
    machines = [scene.far.nodes.machines[name] for name in workers(scene.far)]
    scene.rng.choice([machine for machine in machines if machine.processes(TRIAL)]).kill(TRIAL)


def kill_the_driver(scene: Scene, step: int) -> None:
    name = driving(scene.far, SWEEP_JOB)
    assert name
    scene.far.nodes.machines[name].kill(SWEEP_JOB)
    scene.resume()


def kill_the_cluster(scene: Scene, step: int) -> None:
    scene.far.nodes.kill_all()
    scene.far.nodes.start_head()
    for name in NODES:
        join(scene.far, name)
    scene.resume()


def take_s3_away(scene: Scene, step: int) -> None:
    before = scene.told("S3, trying again")
    with scene.far.services.without_s3():
        scene.go_on_to(step)
        wait_for(lambda: scene.told("S3, trying again") > before)


def take_mlflow_away(scene: Scene, step: int) -> None:
    with scene.far.services.without_mlflow():
        scene.go_on_to(step)
        scene.wait_at(step)


BLOWS = (
    kill_a_raylet,
    cut_the_power,
    kill_a_worker,
    kill_the_driver,
    kill_the_cluster,
    take_s3_away,
    take_mlflow_away,
)
STEPS = (len(BLOWS) + 1) * EVERY


@pytest.fixture(scope="module")
def far() -> Iterator[Team]:
    """Two nodes, and a head of none."""
    with far_team() as members:
        for name in NODES:
            join(members, name)
        yield members


@pytest.fixture
def alice(far: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command of ours from a machine that is none of the nodes; this process has the same keys meanwhile."""
    for name, value in far.environment("alice").items():
        monkeypatch.setenv(name, value)
    (home := tmp_path / "alice").mkdir()
    return Command(home, {**far.environment("alice"), "ADVSEG_LEDGER": far.services.ledger})


@pytest.mark.parametrize("seed", [1, 2])
def test_a_sweep_on_a_cluster_under_kills_ends_as_one_left_alone(
    far: Team, alice: Command, undisturbed, tmp_path: Path, seed: int
) -> None:
    name, rng = f"blows-{seed}", random.Random(seed)
    scene = Scene(name=name, far=far, store=open_store(f"s3://{BUCKET}/runs"), advseg=alice, rng=rng)
    document = small_sweep(
        data(far),
        name,
        trainer={"steps": STEPS, "evaluate_every": EVERY},
        sweep={"trials": TRIALS, "concurrency": 2, "retry": {"max_attempts": 99}},
        storage=scene.store.address,
    )
    (path := tmp_path / "spec.yaml").write_text(yaml.safe_dump(document))
    step = EVERY - 1
    scene.go_on_to(step)
    alice("submit", path)
    for strike in rng.sample(BLOWS, len(BLOWS)):
        scene.wait_at(step)
        step += EVERY
        strike(scene, step)
        scene.go_on_to(step)
    scene.wait_at(step)
    release(far, *scene.keys)
    wait_for(lambda: not driving(far, SWEEP_JOB))

    spec, rows = (read(None, name, far.services.ledger) for read in (read_spec, read_sweep))
    assert [(row.number, row.state) for row in rows.rows] == [(n, TrialState.COMPLETE) for n in range(TRIALS)]
    assert [row.curve for row in rows.rows] == [undisturbed(spec, row.params) for row in rows.rows]
    assert rows.baseline.state is TrialState.COMPLETE
    client = MlflowClient(far.services.tracking_uri)
    runs = runs_by_key(client, name)
    assert {key: run.info.status for key, run in runs.items()} == dict.fromkeys(
        [name, f"{name}/baseline", *scene.keys], "FINISHED"
    )
    for row, key in zip(rows.rows, scene.keys, strict=True):
        # An attempt that was lost before it began has claimed nothing.
        claims = [int(claim.rpartition("-")[2]) for claim in scene.store.at(key).keys(FOLDER)]
        assert len(claims) == len({*claims} & {*range(1, row.account.attempts + 1)})
        history = client.get_metric_history(runs[key].info.run_id, METRIC)
        assert {point.step: point.value for point in history} == row.curve
        assert len(history) == len(row.curve)
