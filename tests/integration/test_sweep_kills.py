"""A sweep whose workers and driver are killed at random ends as one that was left alone."""

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from waiting import LIMIT_S, wait_for
from watched_sweep import WatchedSweep, point

from advseg.platform.base.keys import METRIC
from advseg.platform.ledger.reading import read_spec, read_sweep
from advseg.platform.ledger.rows import best_row
from advseg.platform.services.connection import connect
from advseg.platform.services.records import read_records
from advseg.platform.services.servers import RAY
from advseg.platform.spec.ledger_address import ledger_file
from advseg.platform.tracking.runs import KEY_TAG
from advseg.platform.workers.task import ACCUMULATION_TAG

pytestmark = pytest.mark.cluster

TRIALS, REPORTS = 8, 8


def last(name: str, trials: int) -> tuple[str, str]:
    """The two trials that a sweep comes to at the end."""
    return f"{name}/{trials - 2}", f"{name}/{trials - 1}"


@pytest.fixture
def document(sweep_document) -> Callable[[str, int, int], dict[str, Any]]:
    """A sweep that reports after every so many steps."""

    def write(name: str, trials: int, every: int) -> dict[str, Any]:
        return sweep_document(
            name,
            trainer={"steps": REPORTS * every, "evaluate_every": every},
            sweep={"trials": trials, "sampler": {"name": "random"}, "retry": {"max_attempts": 99}},
        )

    return write


def kill_a_worker(sweep: WatchedSweep, rng: random.Random) -> None:
    """SIGKILL the worker of a trial that has made steps since its newest checkpoint."""

    def at_work() -> list[int]:
        return [beat.pid for number, beat in sweep.beats().items() if beat.step > sweep.saved(number)]

    os.kill(rng.choice(wait_for(at_work)), signal.SIGKILL)


def kill_the_driver(sweep: WatchedSweep, look: Callable[[], None], resume: Callable[[], None]) -> None:
    """SIGKILL the driver while trials run, look at what is left when its workers are gone, too, and resume."""
    os.kill(wait_for(lambda: sweep.beats() and sweep.driver()), signal.SIGKILL)
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
    ("seed", "trials", "workers", "drivers", "every"),
    [
        pytest.param(0, 2, 1, 1, 4),
        *(pytest.param(seed, TRIALS, 20, 10, 50, marks=pytest.mark.chaos) for seed in (1,)),
    ],
)
def test_a_sweep_under_kills_ends_as_one_left_alone(
    cluster: Path,
    document,
    advseg,
    orders,
    mlflow_client: MlflowClient,
    resume,
    sync,
    undisturbed,
    tmp_path: Path,
    seed: int,
    trials: int,
    workers: int,
    drivers: int,
    every: int,
) -> None:
    name = f"kills-{seed}"
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document(name, trials, every)))
    sweep, rng = WatchedSweep(cluster / "runs", name, trials), random.Random(seed)
    kills = ["worker"] * workers + ["driver"] * drivers
    rng.shuffle(kills)
    # However slow this process is, the sweep is not over before all kills are done.
    with orders.held(*last(name, trials), step=REPORTS * every - 1):
        advseg("submit", path)
        wait_for(sweep.begun)
        for kind in kills:
            if kind == "worker":
                kill_a_worker(sweep, rng)
            else:
                kill_the_driver(sweep, lambda: sync(name), lambda: resume(name))
    wait_for(lambda: not sweep.unfinished())
    wait_for(lambda: sweep.driver() is None)

    spec, rows = read_spec(sweep.storage, name), read_sweep(sweep.storage, name).rows
    expected = [(params, undisturbed(spec, params)) for params in (point(spec, number) for number in range(trials))]
    assert [row.number for row in rows] == list(range(trials))
    assert {row.state for row in rows} == {TrialState.COMPLETE}
    assert [(row.params, row.curve) for row in rows] == expected
    best = best_row(rows)
    assert best and best.value == max(curve[REPORTS * every] for _, curve in expected)

    assert sum(row.account.lost for row in rows) <= workers
    assert sum(row.account.attempts for row in rows) > trials
    for row in rows:
        assert row.account.lost_steps <= (row.account.attempts - 1) * every
        resumed = [int(step) for step in re.findall(r"resumed from \S+ at step (\d+)", log_of(sweep, row.number))]
        assert resumed == sorted(resumed), "a step fell back behind a checkpoint"
        assert sweep.saved(row.number) == REPORTS * every

    experiment = mlflow_client.get_experiment_by_name(name)
    assert experiment
    runs = mlflow_client.search_runs([experiment.experiment_id])
    keys = [run.data.tags[KEY_TAG] for run in runs]
    assert sorted(keys) == sorted([name, f"{name}/baseline", *(f"{name}/{number}" for number in range(trials))])
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_key = {run.data.tags[KEY_TAG]: run.info.run_id for run in runs}
    for row in rows:
        assert row.account.run_id == by_key[f"{name}/{row.number}"]
        history = mlflow_client.get_metric_history(row.account.run_id, METRIC)
        assert [(point.step, point.value) for point in history] == list(row.curve.items())

    wait_for(lambda: not sweep.leftovers())


def log_of(sweep: WatchedSweep, number: int) -> str:
    return (sweep.storage / sweep.name / str(number) / "log.txt").read_text()


@pytest.mark.chaos
def test_an_orphaned_driver_that_wakes_up_writes_nothing_more(
    cluster: Path, document, advseg, orders, mlflow_client: MlflowClient, undisturbed, tmp_path: Path
) -> None:
    """The first driver is stopped (SIGSTOP) until another has taken the sweep over, then goes on."""
    name = "orphan"
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document(name, TRIALS, 30) | {"storage": str(cluster / "runs")}))
    sweep = WatchedSweep(cluster / "runs", name, TRIALS)
    environment = {
        **os.environ,
        **connect(cluster).environment(),
        "RAY_ADDRESS": read_records(cluster)[RAY].gcs_address or "",
        # As the head has it: the address of the loopback stays what it is.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    log = tmp_path / "second.log"
    with ExitStack() as undone:
        undone.enter_context(orders.held(*last(name, TRIALS), step=1))
        advseg("submit", path)
        wait_for(lambda: sweep.begun() and sweep.beats())
        orphan = sweep.driver()
        assert orphan
        os.kill(orphan, signal.SIGSTOP)
        undone.callback(os.kill, orphan, signal.SIGCONT)
        second = subprocess.Popen(
            [sys.executable, "-m", "advseg.jobs.sweep", str(path)],
            env=environment,
            cwd=tmp_path,
            stdout=undone.enter_context(log.open("w")),
            stderr=subprocess.STDOUT,
        )
        wait_for(lambda: second.poll() is not None or sweep.driver() not in (None, orphan))
    try:
        assert second.wait(LIMIT_S) == 0, log.read_text()
    finally:
        second.kill()
        second.wait()
    wait_for(lambda: not psutil.pid_exists(orphan))
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
    cluster: Path, sweep_document, advseg, orders, mlflow_client: MlflowClient, tmp_path: Path
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
    sweep = WatchedSweep(cluster / "runs", name, trials=1)
    with orders.held(f"{name}/0", step=3):
        advseg("submit", path)
        first = wait_for(lambda: ledger_file(sweep.storage).exists() and sweep.beats().get(0))
        worker, sizes = psutil.Process(first.pid), list[int]()
        wait_for(lambda: sizes.append(worker.memory_info().data) or sweep.beats()[0].step >= 3)
        worker.kill()
        second = wait_for(lambda: (beat := sweep.beats().get(0)) and beat.pid != first.pid and beat)
        psutil.Process(second.pid).rlimit(psutil.RLIMIT_DATA, (max(sizes) - 150 * 2**20, psutil.RLIM_INFINITY))
    wait_for(lambda: not sweep.unfinished() and sweep.driver() is None)

    (row,) = read_sweep(sweep.storage, name).rows
    assert row.state is TrialState.COMPLETE, row.reason
    assert (row.account.attempts, row.account.lost, row.account.halvings) == (3, 1, 1)
    assert list(row.curve) == [4, 8]
    tags = mlflow_client.get_run(row.account.run_id).data.tags
    assert tags[ACCUMULATION_TAG] == "2, after a worker ran out of memory with 1"
