"""A sweep whose workers and driver are killed at random ends as one that was left alone."""

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import yaml
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from advseg.platform.base.keys import METRIC
from advseg.platform.ledger.reading import read_spec, read_sweep
from advseg.platform.ledger.rows import best_row
from advseg.platform.ledger.samplers import distributions_of, sampler_of
from advseg.platform.services.connection import connect
from advseg.platform.services.records import read_records
from advseg.platform.services.servers import RAY
from advseg.platform.spec.ledger_address import ledger_file
from advseg.platform.spec.spec import Spec
from advseg.platform.tracking.runs import KEY_TAG
from advseg.platform.workers.heartbeat import Beat, read_beat
from advseg.platform.workers.task import ACCUMULATION_TAG
from advseg.trainers.checkpoint import CHECKPOINTS, newest_sealed

pytestmark = pytest.mark.cluster

TRIALS, REPORTS = 8, 8


@pytest.fixture
def document(sweep_document) -> Callable[[str, int], dict[str, Any]]:
    """A sweep that reports after every so many steps."""

    def write(name: str, every: int) -> dict[str, Any]:
        return sweep_document(
            name,
            trainer={"steps": REPORTS * every, "evaluate_every": every},
            sweep={"trials": TRIALS, "sampler": {"name": "random"}, "retry": {"max_attempts": 99}},
        )

    return write


class Sweep:
    """A sweep that runs on the cluster, as those who mean it harm see it."""

    def __init__(self, home: Path, name: str, trials: int = TRIALS) -> None:
        self.home, self.name, self.trials = home, name, trials
        self.storage = home / "runs"
        self.pids: set[int] = set()
        """Of every driver and trial worker that was seen."""

    def beats(self) -> dict[int, Beat]:
        """Heartbeats of trials whose worker lives, by trial."""
        found = {n: beat for n in range(self.trials) if (beat := read_beat(self.storage / self.name / str(n)))}
        alive = {n: beat for n, beat in found.items() if psutil.pid_exists(beat.pid)}
        self.pids |= {beat.pid for beat in alive.values()}
        return alive

    def driver(self) -> int | None:
        """The pid of the sweep's owner, while it lives."""
        query = (
            "SELECT owner FROM studies JOIN study_user_attributes USING (study_id) JOIN advseg_owners "
            "ON value_json = json_quote(sweep_id) WHERE study_name = ?"
        )
        with closing(sqlite3.connect(ledger_file(self.storage), timeout=30)) as database:
            try:
                rows = database.execute(query, [self.name]).fetchall()
            except sqlite3.OperationalError:
                return None  # The first driver has not made its tables yet.
        pid = json.loads(rows[0][0])["pid"] if rows and rows[0][0] else None
        if pid is None or not psutil.pid_exists(pid):
            return None
        self.pids.add(pid)
        return pid

    def unfinished(self) -> bool:
        """Whether there is anything left to disturb."""
        rows = read_sweep(self.storage, self.name).rows
        return len(rows) < self.trials or any(not row.state.is_finished() for row in rows)


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """What the condition gives, once that is true."""
    deadline = time.monotonic() + seconds
    while not (given := condition()):
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(0.05)
    return given


def kill_a_worker(sweep: Sweep, rng: random.Random) -> None:
    """SIGKILL the worker of a trial that has just made a step."""
    first: dict[int, Beat] = {}

    def at_work() -> list[int]:
        for beat in (beats := sweep.beats()).values():
            first.setdefault(beat.pid, beat)
        return [beat.pid for beat in beats.values() if beat.step > first[beat.pid].step]

    wait_for(lambda: at_work() or not sweep.unfinished())
    if pids := at_work():
        os.kill(rng.choice(pids), signal.SIGKILL)


def kill_the_driver(sweep: Sweep, look: Callable[[], None], resume: Callable[[], None]) -> None:
    """SIGKILL the driver while trials run, look at what is left when its workers are gone, too, and resume."""
    wait_for(lambda: sweep.driver() and (sweep.beats() or not sweep.unfinished()))
    if sweep.unfinished() and (pid := sweep.driver()):
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not sweep.beats())
        look()
        resume()


@pytest.fixture
def resume(advseg) -> Callable[[str], None]:
    """Resume a sweep whose driver was killed, as soon as Ray has noticed."""

    def run(name: str) -> None:
        wait_for(lambda: "submitted" in advseg("sweep", "resume", name).stdout)

    return run


@pytest.fixture
def sync(advseg, mlflow_client: MlflowClient) -> Callable[[str], None]:
    """Have the runs of a sweep say that nobody works on it."""

    def run(name: str) -> None:
        assert advseg("sync", name).stdout == f"sweep {name}: its runs are as its ledger has them\n"
        experiment = mlflow_client.get_experiment_by_name(name)
        assert experiment
        assert not mlflow_client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")

    return run


@pytest.mark.parametrize(
    ("seed", "workers", "drivers", "every"),
    [
        pytest.param(0, 2, 1, 12),
        *(pytest.param(seed, 20, 10, 50, marks=pytest.mark.chaos) for seed in (1,)),
    ],
)
def test_a_sweep_under_kills_ends_as_one_left_alone(
    cluster: Path,
    document,
    advseg,
    mlflow_client: MlflowClient,
    resume,
    sync,
    undisturbed,
    tmp_path: Path,
    seed: int,
    workers: int,
    drivers: int,
    every: int,
) -> None:
    name = f"kills-{seed}"
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document(name, every)))
    advseg("submit", path)
    sweep, rng = Sweep(cluster, name), random.Random(seed)
    wait_for(lambda: ledger_file(sweep.storage).exists() and sweep.driver())
    kills = ["worker"] * workers + ["driver"] * drivers
    rng.shuffle(kills)
    done = {"worker": 0, "driver": 0}
    for kind in kills:
        if not sweep.unfinished():
            break
        if kind == "worker":
            kill_a_worker(sweep, rng)
        else:
            kill_the_driver(sweep, lambda: sync(name), lambda: resume(name))
        done[kind] += 1
    assert done == {"worker": workers, "driver": drivers}, "the sweep was over before all kills were done"
    wait_for(lambda: not sweep.unfinished(), 300)
    wait_for(lambda: sweep.driver() is None)

    spec, rows = read_spec(sweep.storage, name), read_sweep(sweep.storage, name).rows
    expected = [(params, undisturbed(spec, params)) for params in (point(spec, number) for number in range(TRIALS))]
    assert [row.number for row in rows] == list(range(TRIALS))
    assert {row.state for row in rows} == {TrialState.COMPLETE}
    assert [(row.params, row.curve) for row in rows] == expected
    best = best_row(rows)
    assert best and best.value == max(curve[REPORTS * every] for _, curve in expected)

    assert sum(row.account.lost for row in rows) <= workers
    assert sum(row.account.attempts for row in rows) > TRIALS
    for row in rows:
        assert row.account.lost_steps <= (row.account.attempts - 1) * every
        resumed = [int(step) for step in re.findall(r"resumed from \S+ at step (\d+)", log_of(sweep, row.number))]
        assert resumed == sorted(resumed), "a step fell back behind a checkpoint"
        sealed = newest_sealed(sweep.storage / name / str(row.number) / CHECKPOINTS)
        assert sealed and sealed[0] == REPORTS * every

    experiment = mlflow_client.get_experiment_by_name(name)
    assert experiment
    runs = mlflow_client.search_runs([experiment.experiment_id])
    keys = [run.data.tags[KEY_TAG] for run in runs]
    assert sorted(keys) == sorted([name, f"{name}/baseline", *(f"{name}/{number}" for number in range(TRIALS))])
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_key = {run.data.tags[KEY_TAG]: run.info.run_id for run in runs}
    for row in rows:
        assert row.account.run_id == by_key[f"{name}/{row.number}"]
        history = mlflow_client.get_metric_history(row.account.run_id, METRIC)
        assert [(point.step, point.value) for point in history] == list(row.curve.items())

    wait_for(lambda: not [pid for pid in sweep.pids if psutil.pid_exists(pid)], 60)


def point(spec: Spec, number: int) -> dict[str, float]:
    """A trial's point, drawn by a study that has never seen another."""
    assert spec.sweep
    study = optuna.create_study(sampler=sampler_of(spec.sweep, spec.trainer.seed, number, number))
    return study.ask(distributions_of(spec.sweep.space)).params


def log_of(sweep: Sweep, number: int) -> str:
    return (sweep.storage / sweep.name / str(number) / "log.txt").read_text()


@pytest.mark.chaos
def test_an_orphaned_driver_that_wakes_up_writes_nothing_more(
    cluster: Path, document, advseg, mlflow_client: MlflowClient, undisturbed, tmp_path: Path
) -> None:
    """The first driver is stopped (SIGSTOP) until another has taken the sweep over, then goes on."""
    name = "orphan"
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document(name, 30) | {"storage": str(cluster / "runs")}))
    advseg("submit", path)
    sweep = Sweep(cluster, name)
    wait_for(lambda: ledger_file(sweep.storage).exists() and sweep.driver() and sweep.beats())
    orphan = sweep.driver()
    assert orphan
    environment = {
        **os.environ,
        **connect(cluster).environment(),
        "RAY_ADDRESS": read_records(cluster)[RAY].gcs_address or "",
        # As the head has it: the address of the loopback stays what it is.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    os.kill(orphan, signal.SIGSTOP)
    with subprocess.Popen(
        [sys.executable, "-m", "advseg.jobs.sweep", str(path)],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as second:
        try:
            wait_for(lambda: second.poll() is not None or sweep.driver() not in (None, orphan))
            os.kill(orphan, signal.SIGCONT)
            output, _ = second.communicate(timeout=300)
        finally:
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGCONT)
            second.kill()
    assert second.returncode == 0, output
    wait_for(lambda: not psutil.pid_exists(orphan), 60)
    rows = read_sweep(sweep.storage, name).rows
    assert {row.state for row in rows} == {TrialState.COMPLETE}
    spec = read_spec(sweep.storage, name)
    assert [row.params for row in rows] == [point(spec, number) for number in range(TRIALS)]
    assert [row.curve for row in rows] == [undisturbed(spec, row.params) for row in rows]
    assert "another process has taken this sweep over" in advseg("job", "follow", f"{name}-1", status=1).stdout
    experiment = mlflow_client.get_experiment_by_name(name)
    assert experiment
    runs = mlflow_client.search_runs([experiment.experiment_id])
    assert len(runs) == TRIALS + 2
    assert {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.chaos
def test_a_worker_without_enough_memory_trains_on_with_half_the_micro_batch(
    cluster: Path, sweep_document, advseg, mlflow_client: MlflowClient, tmp_path: Path
) -> None:
    """A first attempt shows what a step needs, and is killed; the second may not have as much (RLIMIT_DATA)."""
    name, side = "memory", 256
    root = cluster / "data" / "large"
    advseg("data", "shapes", root, "--labelled=16", "--unlabelled=16", "--val=2", "--test=2", f"--size={side}")
    document = sweep_document(
        name,
        trainer={
            "steps": 8,
            "batch_size": 16,
            "evaluate_every": 4,
            "augmentation": {"crop": [side, side]},
        },
        sweep={"trials": 1},
        model={"architecture": "compact", "width": 16},
    )
    document["dataset"]["root"] = str(root)
    document["method"]["semi_start"] = 0
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document))
    advseg("submit", path)
    sweep = Sweep(cluster, name, trials=1)
    first = wait_for(lambda: sweep.beats().get(0))
    worker, sizes = psutil.Process(first.pid), list[int]()
    wait_for(lambda: sizes.append(worker.memory_info().data) or sweep.beats()[0].step >= 2)
    worker.kill()
    second = wait_for(lambda: (beat := sweep.beats().get(0)) and beat.pid != first.pid and beat)
    psutil.Process(second.pid).rlimit(psutil.RLIMIT_DATA, (max(sizes) - 150 * 2**20, psutil.RLIM_INFINITY))
    wait_for(lambda: not sweep.unfinished() and sweep.driver() is None, 300)

    (row,) = read_sweep(sweep.storage, name).rows
    assert row.state is TrialState.COMPLETE, row.reason
    assert (row.account.attempts, row.account.lost, row.account.halvings) == (3, 1, 1)
    assert list(row.curve) == [4, 8]
    tags = mlflow_client.get_run(row.account.run_id).data.tags
    assert tags[ACCUMULATION_TAG] == "2, after a worker ran out of memory with 1"
