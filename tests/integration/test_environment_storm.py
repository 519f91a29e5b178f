"""A sweep in whose environment one thing after another fails ends as one that was left alone."""

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from orders import Orders
from proxy import Proxy, Trouble
from small_disk import can_mount, full, small_disk, without_room
from waiting import wait_for
from watched_sweep import WatchedSweep, point

from advseg.platform.base.keys import METRIC
from advseg.platform.ledger.reading import read_spec, read_sweep
from advseg.platform.services.connection import connect
from advseg.platform.services.records import read_records
from advseg.platform.services.servers import RAY
from advseg.platform.spec.ledger_address import ledger_file
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.tracking.runs import KEY_TAG
from advseg.platform.workers.heartbeat import Beat, read_beat

pytestmark = pytest.mark.cluster

EVERY = 6
STRIKES = 3
"""Of a trial, at most; between two of them, and after the last, it reports and saves."""
STEPS = STRIKES * 2 * EVERY


@dataclass(frozen=True, kw_only=True)
class Severity:
    """How bad it gets."""

    trials: int
    hang_timeout: float
    locked_s: float
    """For so long the ledger is locked: for longer than what counts as hung."""
    requests: int
    """So many requests to MLflow meet each kind of trouble."""
    faults: int
    """So many kinds of them strike."""


SHORT = Severity(trials=2, hang_timeout=15, locked_s=18, requests=1, faults=4)
LONG = Severity(trials=3, hang_timeout=30, locked_s=40, requests=6, faults=7)


@dataclass(kw_only=True)
class Scene:
    """The sweep, what it depends on, and the trial that a fault is about to strike, which is held at a step."""

    sweep: WatchedSweep
    data: Path
    proxy: Proxy
    orders: Orders
    logs: Path
    severity: Severity
    number: int = 0
    step: int = 0
    let_go: Callable[[], None] = lambda: None
    """The trial goes on, to its next strike or its end."""

    @property
    def key(self) -> str:
        return f"{self.sweep.name}/{self.number}"

    def beat(self) -> Beat | None:
        """The trial's newest."""
        return read_beat(LocalStore(self.sweep.directory(self.number)))

    def worker(self) -> Beat:
        """That of the trial, which is held."""
        beat = self.beat()
        assert beat
        return beat

    def said(self, pattern: str) -> int:
        """How often drivers and the trial have said something so far."""
        logs = [*self.logs.glob(f"job-driver-{self.sweep.name}-*.log"), self.sweep.directory(self.number) / "log.txt"]
        return sum(len(re.findall(pattern, log.read_text())) for log in logs if log.exists())


def fill_the_disk(scene: Scene) -> None:
    """Where no disk of our own can be mounted, it is full for the trial's worker alone."""
    before, storage = scene.said(FULL), scene.sweep.storage
    with full(storage) if storage.is_mount() else without_room(scene.worker().pid):
        scene.let_go()
        wait_for(lambda: scene.said(FULL) > before)


def lock_the_ledger(scene: Scene) -> None:
    """The trial makes a report meanwhile, which the ledger has not at the end; and goes on in the same attempt."""
    attempt, driver = scene.worker().attempt, scene.sweep.driver()
    assert driver
    report = (scene.step // EVERY + 1) * EVERY
    with closing(sqlite3.connect(ledger_file(scene.sweep.storage), isolation_level=None, timeout=60)) as database:

        def is_held() -> bool:
            return (report,) in database.execute(STEPS_HELD, [scene.number]).fetchall()

        database.execute("BEGIN EXCLUSIVE")
        scene.let_go()
        wait_for(lambda: (beat := scene.beat()) and beat.step >= report)
        time.sleep(scene.severity.locked_s)
        assert not is_held()
        database.execute("ROLLBACK")
        wait_for(lambda: is_held() or not psutil.pid_exists(driver))
        assert is_held(), "the driver ended"
    wait_for(lambda: (beat := scene.beat()) and beat.step > report)
    assert scene.worker().attempt == attempt


def trouble_mlflow(scene: Scene, trouble: Trouble) -> None:
    before = scene.proxy.troubled
    scene.proxy.trouble = trouble
    scene.let_go()
    wait_for(lambda: scene.proxy.troubled >= before + scene.severity.requests)
    scene.proxy.trouble = None


def take_the_data_away(scene: Scene) -> None:
    before = scene.said(GONE)
    away = scene.data.rename(scene.data.with_name("away"))
    scene.let_go()
    wait_for(lambda: scene.said(GONE) > before)
    away.rename(scene.data)


def stop_the_worker(scene: Scene) -> None:
    """It goes on, if it can, when another has its trial."""
    stopped = scene.worker()
    os.kill(stopped.pid, signal.SIGSTOP)
    scene.let_go()
    wait_for(lambda: (beat := scene.beat()) and beat.attempt > stopped.attempt)
    with suppress(ProcessLookupError):
        os.kill(stopped.pid, signal.SIGCONT)


def break_the_gpu(scene: Scene) -> None:
    """The process that saw it trains no more."""
    broken = scene.worker()
    order = scene.orders.breaks(scene.key, scene.step)
    scene.let_go()
    wait_for(lambda: not order.exists())
    again = wait_for(lambda: (beat := scene.beat()) and beat.attempt > broken.attempt and beat)
    assert again.pid != broken.pid


STEPS_HELD = "SELECT step FROM trial_intermediate_values JOIN trials USING (trial_id) WHERE number = ?"
FULL = r"(?m)^(?!.*heartbeat).*(?:No space left on device|database or disk is full|File too large)"
"""An owner's heartbeat may be refused first, which harms nobody."""
GONE = r"does not exist"
FAULTS: dict[str, Callable[[Scene], None]] = {
    "the disk is full": fill_the_disk,
    "the ledger is locked": lock_the_ledger,
    "MLflow answers 500": lambda scene: trouble_mlflow(scene, Trouble.ERROR),
    "MLflow hangs": lambda scene: trouble_mlflow(scene, Trouble.HANGS),
    "the data are away": take_the_data_away,
    "a worker is stopped": stop_the_worker,
    "a GPU breaks": break_the_gpu,
}
WITH_THE_LEDGER = "the disk is full"
"""May end the driver: the ledger is on that disk."""


def plan(rng: random.Random, kinds: list[str], trials: int) -> list[list[tuple[int, str]]]:
    """For each trial, at which steps what strikes it."""
    rng.shuffle(kinds)
    return [
        [(2 * EVERY * place + rng.randrange(1, EVERY), kind) for place, kind in enumerate(kinds[number::trials])]
        for number in range(trials)
    ]


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    """A folder on a small disk, where one can be mounted."""
    (folder := tmp_path / "storage").mkdir()
    if not can_mount(folder):
        yield folder
        return
    with small_disk(folder):
        yield folder


@pytest.fixture
def proxy(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Stands between MLflow and the jobs that are submitted from now on."""
    with Proxy(connect(cluster).tracking_uri).serving() as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        yield proxy


@pytest.fixture
def resume(advseg, storage: Path) -> Callable[[str], None]:
    """Resume a sweep whose driver has ended, as soon as Ray has noticed."""

    def run(name: str) -> None:
        wait_for(lambda: "submitted" in advseg("sweep", "resume", name, "--storage", storage).stdout)

    return run


@pytest.mark.parametrize(
    ("seed", "severity"),
    [
        pytest.param(0, SHORT, id="short"),
        *(pytest.param(seed, LONG, marks=pytest.mark.chaos, id=f"long-{seed}") for seed in (1, 2)),
    ],
)
def test_a_sweep_whose_environment_fails_ends_as_one_left_alone(
    cluster: Path,
    sweep_document,
    tiny_shapes: Path,
    advseg,
    orders: Orders,
    proxy: Proxy,
    storage: Path,
    resume,
    mlflow_client: MlflowClient,
    undisturbed,
    tmp_path: Path,
    seed: int,
    severity: Severity,
) -> None:
    name = f"storm-{seed}"
    document = sweep_document(
        name,
        trainer={"steps": STEPS, "evaluate_every": EVERY},
        sweep={
            "trials": severity.trials,
            "concurrency": 1,
            "sampler": {"name": "random"},
            # A slow machine may bring about more losses than the one that is asked for.
            "retry": {"hang_timeout": severity.hang_timeout, "max_attempts": 9},
        },
        storage=str(storage),
    )
    data = Path(shutil.copytree(tiny_shapes, tmp_path / "data"))
    document["dataset"]["root"] = str(data)
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document))

    sweep = WatchedSweep(storage, name, severity.trials)
    logs = Path(read_records(cluster)[RAY].temp_dir) / "ray" / "session_latest" / "logs"
    scene = Scene(sweep=sweep, data=data, proxy=proxy, orders=orders, logs=logs, severity=severity)
    # Elsewhere there is neither a disk in memory nor a limit for another process.
    possible = [kind for kind in FAULTS if kind != WITH_THE_LEDGER or sys.platform == "linux"]
    rng = random.Random(seed)
    kinds = rng.sample(possible, min(severity.faults, len(possible)))
    strikes = plan(rng, kinds, severity.trials)
    felt, stops = list[str](), list[str]()

    def go_on() -> None:
        """Resume the sweep if its driver has ended."""
        if sweep.driver() is None and sweep.unfinished():
            stops.append(felt[-1])
            resume(name)
            wait_for(sweep.driver)

    def reached(number: int, step: int) -> bool:
        """Whether a trial has come to the step where it is held."""
        rows = read_sweep(storage, name).rows
        assert not any(row.state.is_finished() for row in rows[number:]), [(row.state, row.reason) for row in rows]
        beat = sweep.beats().get(number)
        return beat is not None and beat.step >= step

    def strike(number: int, step: int, kind: str, next_step: int | None) -> None:
        wait_for(lambda: go_on() or reached(number, step))
        scene.number, scene.step = number, step
        key = scene.key
        scene.let_go = lambda: orders.hold(key, next_step) if next_step else orders.release(key)
        FAULTS[kind](scene)
        felt.append(kind)

    for number, moments in enumerate(strikes):
        orders.hold(f"{name}/{number}", moments[0][0])
    advseg("submit", path)
    wait_for(sweep.begun)
    for number, moments in enumerate(strikes):
        for (step, kind), after in pairwise([*moments, (None, "")]):
            strike(number, step, kind, after[0])
    wait_for(lambda: go_on() or sweep.driver() is None)

    assert sorted(felt) == sorted(kinds)
    assert set(stops) <= {WITH_THE_LEDGER}
    assert_as_left_alone(sweep, undisturbed, mlflow_client)
    jobs = [json.loads(line) for line in advseg("job", "list", "--json").stdout.splitlines()]
    assert next(job["state"] for job in jobs if job["id"] == f"{name}-{1 + len(stops)}") == "SUCCEEDED"
    wait_for(lambda: not sweep.leftovers())


def assert_as_left_alone(sweep: WatchedSweep, undisturbed, mlflow_client: MlflowClient) -> None:
    """All trials are complete, once each, with the figures of an undisturbed training, in ledger, spool and MLflow."""
    trials = range(sweep.trials)
    spec, rows = read_spec(sweep.storage, sweep.name), read_sweep(sweep.storage, sweep.name).rows
    assert [(row.number, row.state, row.reason) for row in rows] == [
        (number, TrialState.COMPLETE, "") for number in trials
    ]
    assert [row.params for row in rows] == [point(spec, number) for number in trials]
    assert [row.curve for row in rows] == [undisturbed(spec, row.params) for row in rows]

    experiment = mlflow_client.get_experiment_by_name(sweep.name)
    assert experiment
    runs = mlflow_client.search_runs([experiment.experiment_id])
    keys = [run.data.tags[KEY_TAG] for run in runs]
    assert sorted(keys) == sorted(f"{sweep.name}{end}" for end in ("", "/baseline", *(f"/{n}" for n in trials)))
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_key = {run.data.tags[KEY_TAG]: run.info.run_id for run in runs}
    for row in rows:
        assert row.account.run_id == by_key[f"{sweep.name}/{row.number}"]
        history = mlflow_client.get_metric_history(row.account.run_id, METRIC)
        assert [(each.step, each.value) for each in history] == list(row.curve.items())
        spooled = (sweep.directory(row.number) / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in spooled] == list(row.curve)
    assert [path.name for path in sweep.storage.rglob("*.partial")] == []
