"""What MLflow's runs say once no process works on their trainings any more."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.rows import Row
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.sweep.settler import settle_trials
from advseg.platform.tracking.ending import Ending, State
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.reporter import SYSTEM, MlflowReporter
from advseg.platform.tracking.runs import REASON_TAG, STATE_TAG, close_run, ensure_run, find_run
from advseg.platform.tracking.spool import Spool, read_records
from advseg.platform.workers.account import Account
from advseg.platform.workers.execute import LOG
from advseg.platform.workers.settle import settle
from advseg.platform.workers.task import METRICS, Task
from advseg.trainers.reporter import Report

SWEEP = RunIdentity(experiment="probe", key="probe")
READS = {"get_experiment_by_name", "search_runs"}


class Watched(MlflowClient):
    """An MLflow client that remembers what it was asked for."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.asked: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if not name.startswith("_") and callable(found):
            self.asked.append(name)
        return found


@pytest.fixture
def mlflow(client: MlflowClient) -> Watched:
    """With the run of the sweep."""
    ensure_run(client, SWEEP)
    return Watched(client.tracking_uri)


def task(storage: Path, number: int = 0) -> Task:
    identity = RunIdentity(experiment="probe", key=f"probe/{number}", parent="probe", params={"trainer.steps": 8})
    return Task(spec={}, store=LocalStore(storage), tracking_uri="", identity=identity)


def spooled(task: Task, *steps: int, sent: int = 0) -> None:
    """What a training has reported, of which some was sent."""
    spool = Spool(task.own.folder / METRICS)
    for step in steps:
        spool.append({"step": step, "timestamp": 1000 + step, "metrics": {"val/miou": 10.0 * step}})
    spool.mark_sent(sent)


def run_of(client: MlflowClient, number: int = 0) -> Run:
    run_id = find_run(client, "probe", f"probe/{number}")
    assert run_id
    return client.get_run(run_id)


def state_of(client: MlflowClient, number: int = 0) -> tuple[str, str, str]:
    run = run_of(client, number)
    return run.info.status, run.data.tags[STATE_TAG], run.data.tags[REASON_TAG]


def history(client: MlflowClient, number: int = 0) -> list[tuple[int, float]]:
    metrics = client.get_metric_history(run_of(client, number).info.run_id, "val/miou")
    return [(metric.step, metric.value) for metric in metrics]


class TestRun:
    def test_that_does_not_exist_yet_is_made_with_all_that_was_reported(self, mlflow: Watched, tmp_path: Path) -> None:
        """MLflow was away while it trained."""
        spooled(task(tmp_path), 2, 4)
        run_id = settle(mlflow, task(tmp_path), Ending(State.FAIL, "its worker process died"))
        assert run_of(mlflow).info.run_id == run_id
        assert state_of(mlflow) == ("FAILED", "FAIL", "its worker process died")
        assert history(mlflow) == [(2, 20.0), (4, 40.0)]
        assert run_of(mlflow).data.params == {"trainer.steps": "8"}
        assert Spool(task(tmp_path).own.folder / METRICS).unsent() == []

    def test_of_a_training_that_never_reported_is_made_too(self, mlflow: Watched, tmp_path: Path) -> None:
        settle(mlflow, task(tmp_path), Ending(State.STOPPED, ""))
        assert state_of(mlflow) == ("KILLED", "STOPPED", "")
        assert not task(tmp_path).own.folder.exists()

    def test_that_was_left_running_gets_what_is_missing_and_its_end(self, mlflow: Watched, tmp_path: Path) -> None:
        run_id = ensure_run(mlflow, task(tmp_path).identity)
        mlflow.log_batch(run_id, metrics=[Metric("val/miou", 20.0, 1002, 2)])
        spooled(task(tmp_path), 2, 4, sent=1)
        assert settle(mlflow, task(tmp_path), Ending(State.COMPLETE, "")) == run_id
        assert state_of(mlflow) == ("FINISHED", "COMPLETE", "")
        assert history(mlflow) == [(2, 20.0), (4, 40.0)]

    def test_has_each_artifact_once_however_often_it_is_settled(self, mlflow: Watched, tmp_path: Path) -> None:
        spooled(task(tmp_path), 2)
        for name in ("confusion.png", LOG):
            (task(tmp_path).own.folder / name).write_text(name)
        for _ in range(2):
            settle(mlflow, task(tmp_path), Ending(State.COMPLETE, ""))
        assert mlflow.asked.count("log_artifact") == 2
        artifacts = mlflow.list_artifacts(run_of(mlflow).info.run_id)
        assert sorted(artifact.path for artifact in artifacts) == ["confusion.png", LOG]

    def test_gets_the_artifacts_that_its_reporter_could_not_send(self, mlflow: Watched, tmp_path: Path) -> None:
        reporter = MlflowReporter(
            mlflow.tracking_uri, task(tmp_path).identity, task(tmp_path).own.folder / METRICS, ["confusion.png"]
        )
        reporter.report(Report(step=2, steps=8, metrics={"val/miou": 20.0}))
        (task(tmp_path).own.folder / "confusion.png").write_text("a picture")
        reporter.close()
        (task(tmp_path).own.folder / LOG).write_text("a log")
        settle(mlflow, task(tmp_path), Ending(State.STOPPED, ""))
        assert mlflow.asked.count("log_artifact") == 1
        assert history(mlflow) == [(2, 20.0)]

    def test_ends_when_its_training_gave_the_last_sign_however_late_it_is_settled(
        self, mlflow: Watched, tmp_path: Path
    ) -> None:
        run_id = ensure_run(mlflow, task(tmp_path).identity)
        start = mlflow.get_run(run_id).info.start_time
        spool = Spool(task(tmp_path).own.folder / METRICS)
        for step in (2, 4):
            spool.append({"step": step, "timestamp": start + 10 * step, "metrics": {"val/miou": 1.0}})
        for ending in (Ending(State.FAIL, "its worker died"), Ending(State.FAIL, "its worker died"), None):
            settle(mlflow, task(tmp_path), ending or Ending(State.COMPLETE))
            assert run_of(mlflow).info.end_time == start + 40

    def test_of_a_training_that_still_writes_gets_what_is_whole_and_nothing_on_disk_is_cut(
        self, mlflow: Watched, tmp_path: Path
    ) -> None:
        """Nobody knows for sure of another machine's process that it is gone."""
        spooled(task(tmp_path), 2)
        line = json.dumps({"step": 4, "timestamp": 1004, "metrics": {"val/miou": 40.0}})
        for name in ("metrics.jsonl", SYSTEM):
            with (task(tmp_path).own.folder / name).open("a") as file:
                file.write(line[:30])
                file.flush()
                settle(mlflow, task(tmp_path), Ending(State.STOPPED))
                file.write(line[30:] + "\n")
        assert [record["step"] for record in read_records(task(tmp_path).own.folder / METRICS)] == [2, 4]
        assert [record["step"] for record in read_records(task(tmp_path).own.folder / SYSTEM)] == [4]
        settle(mlflow, task(tmp_path), Ending(State.STOPPED))
        assert history(mlflow) == [(2, 20.0), (4, 40.0)]

    def test_that_somebody_deleted_comes_again_with_all_that_was_reported(
        self, mlflow: Watched, tmp_path: Path
    ) -> None:
        spooled(task(tmp_path), 2, 4)
        (task(tmp_path).own.folder / LOG).write_text("a log")
        mlflow.delete_run(settle(mlflow, task(tmp_path), Ending(State.COMPLETE)))
        settle(mlflow, task(tmp_path), Ending(State.COMPLETE))
        assert history(mlflow) == [(2, 20.0), (4, 40.0)]
        assert [artifact.path for artifact in mlflow.list_artifacts(run_of(mlflow).info.run_id)] == [LOG]

    @pytest.mark.parametrize("damage", [b"", b"\0\0\0\0", b"{"])
    @pytest.mark.parametrize("file", ["metrics.sent", "artifacts.json", "metrics.jsonl", SYSTEM, "tracking.json"])
    def test_is_settled_whatever_a_power_cut_did_to_the_files(
        self, mlflow: Watched, tmp_path: Path, file: str, damage: bytes
    ) -> None:
        spooled(task(tmp_path), 2, sent=1)
        (task(tmp_path).own.folder / LOG).write_text("a log")
        settle(mlflow, task(tmp_path), Ending(State.STOPPED))
        (task(tmp_path).own.folder / file).write_bytes(damage)
        settle(mlflow, task(tmp_path), Ending(State.COMPLETE))
        assert state_of(mlflow) == ("FINISHED", "COMPLETE", "")


@pytest.fixture
def ledger(make_spec: Callable[..., Any], opened: Callable[..., Ledger]) -> Ledger:
    """With a trial of each state: complete, pruned, failed, unfinished."""
    ledger = opened(make_spec())
    ends = ((TrialState.COMPLETE, ""), (TrialState.PRUNED, "not among the best"), (TrialState.FAIL, "broken"), None)
    for number, end in enumerate(ends):
        ledger.propose()
        ledger.report(number, 8, 50.0)
        if end:
            ledger.finish(number, *end)
    return ledger


RIGHT = [
    ("FINISHED", "COMPLETE", ""),
    ("KILLED", "PRUNED", "not among the best"),
    ("FAILED", "FAIL", "broken"),
    ("KILLED", "STOPPED", ""),
]


class TestTrials:
    @staticmethod
    def settle(client: MlflowClient, ledger: Ledger, storage: Path) -> list[str]:
        class Tasks:
            @staticmethod
            def of(row: Row) -> Task:
                return task(storage, row.number)

        return settle_trials(client, ledger, Tasks)

    def test_without_runs_get_them(self, mlflow: Watched, ledger: Ledger, tmp_path: Path) -> None:
        self.settle(mlflow, ledger, tmp_path)
        assert [state_of(mlflow, number) for number in range(4)] == RIGHT

    @pytest.mark.parametrize("state", [None, "STOPPED", "COMPLETE", "FAIL", "PRUNED"])
    def test_with_runs_of_any_state_have_that_of_the_ledger(
        self, mlflow: Watched, ledger: Ledger, tmp_path: Path, state: str | None
    ) -> None:
        """A worker that was pruned or killed calls itself stopped; one that was killed hard says nothing."""
        for number in range(4):
            run_id = ensure_run(mlflow, task(tmp_path, number).identity)
            if state:
                close_run(mlflow, run_id, Ending(State(state)))
        self.settle(mlflow, ledger, tmp_path)
        assert [state_of(mlflow, number)[:2] for number in range(4)] == [right[:2] for right in RIGHT]

    def test_whose_runs_are_right_are_left_alone(self, mlflow: Watched, ledger: Ledger, tmp_path: Path) -> None:
        self.settle(mlflow, ledger, tmp_path)
        before = [run_of(mlflow, number).info.end_time for number in range(4)]
        mlflow.asked.clear()
        self.settle(mlflow, ledger, tmp_path)
        assert set(mlflow.asked) == READS
        assert [run_of(mlflow, number).info.end_time for number in range(4)] == before

    @pytest.mark.parametrize("refused", [0, 1, 3])
    def test_are_settled_each_by_itself(
        self, mlflow: Watched, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
    ) -> None:
        for number in range(4):
            ensure_run(mlflow, task(tmp_path, number).identity)
        run_id, terminate = run_of(mlflow, refused).info.run_id, mlflow.set_terminated

        def refuse(id: str, *rest: Any) -> None:
            if id == run_id:
                raise MlflowException("not yours", error_code=PERMISSION_DENIED)
            terminate(id, *rest)

        monkeypatch.setattr(mlflow, "set_terminated", refuse)
        (problem,) = self.settle(mlflow, ledger, tmp_path)
        assert problem.startswith(f"trial {refused}: not yours: who asks may not do that there")
        assert [state_of(mlflow, n) == RIGHT[n] for n in range(4)] == [n != refused for n in range(4)]

    def test_are_settled_though_the_baseline_is_damaged(
        self, mlflow: Watched, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def damaged() -> Row:
            raise ValueError("Expecting value: line 1 column 1 (char 0)")

        monkeypatch.setattr(ledger, "baseline", damaged)
        assert self.settle(mlflow, ledger, tmp_path) == ["its baseline: Expecting value: line 1 column 1 (char 0)"]
        assert [state_of(mlflow, number) for number in range(4)] == RIGHT

    def test_wait_for_a_server_that_does_not_answer_at_all(
        self, mlflow: Watched, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: Any, **__: Any) -> Any:
            raise MlflowException("connection refused")

        for name in ("log_batch", "search_experiments"):
            monkeypatch.setattr(mlflow, name, away)
        with pytest.raises(MlflowException, match="connection refused"):
            self.settle(mlflow, ledger, tmp_path)

    def test_have_their_runs_noted_in_the_ledger(self, mlflow: Watched, ledger: Ledger, tmp_path: Path) -> None:
        ledger.note(1, Account(attempts=2, device_seconds=3.0))
        ensure_run(mlflow, task(tmp_path, 0).identity)
        self.settle(mlflow, ledger, tmp_path)
        assert [row.account.run_id for row in ledger.rows()] == [run_of(mlflow, n).info.run_id for n in range(4)]
        assert ledger.row(1).account == Account(attempts=2, device_seconds=3.0, run_id=run_of(mlflow, 1).info.run_id)

    def test_have_the_run_noted_also_if_it_was_right_already(
        self, mlflow: Watched, ledger: Ledger, tmp_path: Path
    ) -> None:
        run_id = ensure_run(mlflow, task(tmp_path).identity)
        close_run(mlflow, run_id, Ending(State.COMPLETE))
        self.settle(mlflow, ledger, tmp_path)
        assert ledger.row(0).account.run_id == run_id

    def test_of_a_sweep_that_has_none_need_nothing(
        self, mlflow: Watched, make_spec: Callable[..., Any], opened: Callable[..., Ledger], tmp_path: Path
    ) -> None:
        mlflow.asked.clear()
        self.settle(mlflow, opened(make_spec("name=empty")), tmp_path)
        assert set(mlflow.asked) <= READS
