"""Runs of trials that have ended, while their sweep goes on."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from advseg.platform.base.events import TrialUpdate
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.rows import Row
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.sweep.settler import Settler
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run, find_run
from advseg.platform.tracking.spool import Spool
from advseg.platform.workers.task import METRICS, Task

SWEEP = RunIdentity(experiment="probe", key="probe")


class Clock:
    """Time that the test tells."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ledger(make_spec: Callable[..., Any], opened: Callable[..., Ledger]) -> Ledger:
    """With a trial that was pruned, and one that runs."""
    ledger = opened(make_spec())
    for number in range(2):
        ledger.propose()
        ledger.report(number, 8, 50.0)
    ledger.finish(0, TrialState.PRUNED, "not among the best")
    return ledger


def task(storage: Path, number: int) -> Task:
    identity = RunIdentity(experiment="probe", key=f"probe/{number}", parent="probe")
    return Task(spec={}, store=LocalStore(storage), tracking_uri="", identity=identity)


class Tasks:
    """Those of a sweep, without its spec."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage

    def of(self, row: Row) -> Task:
        return task(self.storage, row.number)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settler(client: MlflowClient, ledger: Ledger, tmp_path: Path, clock: Clock) -> Iterator[Settler]:
    ensure_run(client, SWEEP)
    settler = Settler(client, ledger, Tasks(tmp_path), every_s=0.01, left_alone_s=20, clock=clock)
    yield settler
    settler.close()


def ended(number: int, state: str) -> TrialUpdate:
    return TrialUpdate(key=f"probe/{number}", state=state, step=8, steps=8)


def status_of(client: MlflowClient, number: int) -> str | None:
    run_id = find_run(client, "probe", f"probe/{number}")
    return client.get_run(run_id).info.status if run_id else None


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_a_trial_whose_worker_was_killed_gets_its_run_and_metrics(settler, client, clock, tmp_path) -> None:
    Spool(task(tmp_path, 0).own.folder / METRICS).append({"step": 8, "timestamp": 1000, "metrics": {"val/miou": 50.0}})
    settler.hear(ended(0, "PRUNED"))
    clock.now = 20
    wait_until(lambda: status_of(client, 0) == "KILLED")
    run_id = find_run(client, "probe", "probe/0")
    assert [metric.value for metric in client.get_metric_history(run_id, "val/miou")] == [50.0]


def test_a_worker_has_time_to_send_what_is_left_by_itself(settler, client, clock, tmp_path) -> None:
    run_id = ensure_run(client, task(tmp_path, 0).identity)
    settler.hear(ended(0, "PRUNED"))
    clock.now = 19.9
    settler.close()
    assert client.get_run(run_id).info.status == "RUNNING"


def test_a_trial_that_runs_is_left_alone(settler, client, clock, tmp_path) -> None:
    ensure_run(client, task(tmp_path, 1).identity)
    settler.hear(ended(1, "RUNNING"))
    settler.hear(ended(0, "PRUNED"))
    clock.now = 100
    wait_until(lambda: status_of(client, 0) == "KILLED")
    assert status_of(client, 1) == "RUNNING"


def test_what_mlflow_does_not_take_is_tried_again(settler, client, clock, monkeypatch, caplog) -> None:
    search, failures = client.search_runs, iter([True, True])

    def away_at_first(*args: Any, **more: Any) -> Any:
        if next(failures, False):
            raise ConnectionError("no answer")
        return search(*args, **more)

    monkeypatch.setattr(client, "search_runs", away_at_first)
    settler.hear(ended(0, "PRUNED"))
    clock.now = 20
    other = MlflowClient(client.tracking_uri)
    wait_until(lambda: status_of(other, 0) == "KILLED")
    assert caplog.text.count("the run of probe/0 is not settled yet, trying again: no answer") == 2


def test_one_whose_run_is_refused_is_told_once_and_holds_up_no_other(
    settler, client, ledger, clock, tmp_path, monkeypatch, caplog
) -> None:
    ledger.finish(1, TrialState.COMPLETE)
    refused, terminate = ensure_run(client, task(tmp_path, 0).identity), client.set_terminated

    def refuse(run_id: str, *rest: Any) -> None:
        if run_id == refused:
            raise MlflowException("not yours", error_code=PERMISSION_DENIED)
        terminate(run_id, *rest)

    monkeypatch.setattr(client, "set_terminated", refuse)
    for number, state in ((0, "PRUNED"), (1, "COMPLETE")):
        settler.hear(ended(number, state))
    clock.now = 20
    wait_until(lambda: status_of(client, 1) == "FINISHED")
    settler.close()
    assert [message for message in caplog.messages if "probe/0" in message] == [
        "the run of probe/0 cannot be settled: not yours: who asks may not do that there, unless an admin of that "
        "MLflow lets them"
    ]


def test_one_for_which_mlflow_has_no_answer_holds_up_no_other(settler, client, ledger, clock, tmp_path, monkeypatch):
    ledger.finish(1, TrialState.COMPLETE)
    broken, terminate = ensure_run(client, task(tmp_path, 0).identity), client.set_terminated

    def fail(run_id: str, *rest: Any) -> None:
        if run_id == broken:
            raise MlflowException("500")
        terminate(run_id, *rest)

    monkeypatch.setattr(client, "set_terminated", fail)
    for number, state in ((0, "PRUNED"), (1, "COMPLETE")):
        settler.hear(ended(number, state))
    clock.now = 20
    wait_until(lambda: status_of(client, 1) == "FINISHED")


def test_closing_does_not_wait_for_an_answer_that_never_comes(settler, client, clock, monkeypatch) -> None:
    monkeypatch.setattr("advseg.platform.sweep.settler._LEAVE_S", 0.1)
    asked, release = threading.Event(), threading.Event()

    def hang(*_: Any, **__: Any) -> None:
        asked.set()
        release.wait(60)

    monkeypatch.setattr(client, "get_experiment_by_name", hang)
    settler.hear(ended(0, "PRUNED"))
    clock.now = 20
    assert asked.wait(60)
    began = time.monotonic()
    settler.close()
    assert time.monotonic() - began < 10
    release.set()
