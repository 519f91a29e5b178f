"""What `advseg sync` makes of runs that killed processes have left."""

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from advseg.jobs.sweep import reap_others
from advseg.platform.base.mlflow_account import PASSWORD_PATH
from advseg.platform.cluster.driver import Job
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.location import Location
from advseg.platform.ledger.ownership import Owner
from advseg.platform.ledger.reading import abandoned_sweeps, read_sweep
from advseg.platform.ledger.rows import BASELINE_NUMBER, Row
from advseg.platform.spec.ledger_address import ledger_file
from advseg.platform.spec.spec import Spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.storage.store import StoreError
from advseg.platform.sweep.sync import sync, sync_trainings
from advseg.platform.tracking.clients import Clients
from advseg.platform.tracking.ending import Ending, State
from advseg.platform.tracking.identity import single_identity, sweep_identity, trial_identity
from advseg.platform.tracking.noted import note
from advseg.platform.tracking.reporter import MlflowReporter
from advseg.platform.tracking.runs import ID_TAG, close_run, ensure_run, runs_by_key
from advseg.platform.tracking.spool import Spool, has_unsent
from advseg.platform.workers.account import Account
from advseg.platform.workers.heartbeat import FILE, Beat
from advseg.platform.workers.task import METRICS, Task
from advseg.trainers.errors import UserError


@pytest.fixture
def spec(make_spec: Callable[..., Spec]) -> Spec:
    return make_spec()


@pytest.fixture
def left(spec: Spec, opened: Callable[..., Ledger], client: MlflowClient, tmp_path: Path) -> Ledger:
    """The ledger of a sweep whose driver was killed: a trial is complete, another was at work; both runs are open."""
    ledger = opened(spec)
    document = spec.model_dump(mode="json")
    ensure_run(client, sweep_identity(document))
    for number in range(2):
        ledger.propose()
        ledger.report(number, 8, 50.0)
        ensure_run(client, trial_identity(document, number))
        Spool(tmp_path / "probe" / str(number) / "metrics.jsonl").append(
            {"step": 8, "timestamp": 1000, "metrics": {"val/miou": 50.0}}
        )
    ledger.finish(0, TrialState.COMPLETE)
    return ledger


def states(client: MlflowClient) -> dict[str, str]:
    return {key: run.info.status for key, run in runs_by_key(client, "probe").items()}


def miou(client: MlflowClient, key: str) -> list[float]:
    run: Run = runs_by_key(client, "probe")[key]
    return [metric.value for metric in client.get_metric_history(run.info.run_id, "val/miou")]


@pytest.mark.parametrize("ledger_address", ["postgresql"], indirect=True)
class TestElsewhere:
    """A sweep in a ledger of several machines, which has begun it in another storage than who syncs has."""

    @pytest.fixture(autouse=True)
    def elsewhere(self, left: Ledger, client: MlflowClient, tmp_path: Path) -> Path:
        """Where its files lie now."""
        storage = tmp_path / "elsewhere"
        storage.mkdir()
        (tmp_path / "probe").rename(storage / "probe")
        left.hold_location(Location(storage=str(storage), tracking_uri=client.tracking_uri))
        return storage

    def test_is_settled_by_what_lies_there(self, client: MlflowClient, ledger_address: str, tmp_path: Path) -> None:
        sync(Clients(client), LocalStore(tmp_path / "mine"), ledger_address, [], print)
        assert states(client) == {"probe": "KILLED", "probe/0": "FINISHED", "probe/1": "KILLED"}
        assert miou(client, "probe/1") == [50.0]

    def test_is_left_alone_on_a_machine_that_has_it_not(
        self, client: MlflowClient, ledger_address: str, elsewhere: Path, tmp_path: Path
    ) -> None:
        elsewhere.rename(tmp_path / "unmounted")
        said: list[str] = []
        sync(Clients(client), LocalStore(tmp_path / "mine"), ledger_address, [], said.append)
        assert said == [f"left alone: sweep probe, whose storage {elsewhere} is not on this machine"]
        assert set(states(client).values()) == {"RUNNING"}


class TestSweep:
    @pytest.mark.usefixtures("left")
    def test_whose_driver_is_gone_has_its_runs_as_the_ledger_says(self, client: MlflowClient, tmp_path: Path) -> None:
        said: list[str] = []
        sync(Clients(client), LocalStore(tmp_path), None, [], said.append)
        assert said == ["sweep probe: its runs are as its ledger has them"]
        assert states(client) == {"probe": "KILLED", "probe/0": "FINISHED", "probe/1": "KILLED"}
        assert miou(client, "probe/0") == miou(client, "probe/1") == [50.0]
        assert {row.number: row.account.run_id for row in read_sweep(tmp_path, "probe").rows} == {
            number: runs_by_key(client, "probe")[f"probe/{number}"].info.run_id for number in range(2)
        }

    @pytest.mark.parametrize(
        ("state", "reason", "status"),
        [
            (TrialState.FAIL, "diverged: loss/ce at step 5", "FAILED"),
            (TrialState.COMPLETE, "", "FINISHED"),
            (TrialState.RUNNING, "", "KILLED"),
        ],
    )
    def test_whose_baseline_ended_has_its_run_as_the_ledger_says(
        self, left: Ledger, client: MlflowClient, tmp_path: Path, state: TrialState, reason: str, status: str
    ) -> None:
        baseline = Row(number=BASELINE_NUMBER, params={}, state=state, reason=reason, curve={8: 50.0})
        left.hold_baseline(replace(baseline, account=Account(attempts=1)))
        for _ in range(2):
            sync(Clients(client), LocalStore(tmp_path), None, [], print)
            run = runs_by_key(client, "probe")["probe/baseline"]
            assert (run.info.status, run.data.tags["advseg.reason"]) == (status, reason)
        assert read_sweep(tmp_path, "probe").baseline.account.run_id == run.info.run_id

    @pytest.mark.usefixtures("left")
    def test_can_be_synced_again_and_resumed(
        self, client: MlflowClient, tmp_path: Path, spec: Spec, opened: Callable[..., Ledger]
    ) -> None:
        for _ in range(2):
            sync(Clients(client), LocalStore(tmp_path), None, ["probe"], print)
        assert opened(spec).unfinished() == [1]

    def test_that_somebody_owns_is_left_alone(
        self, client: MlflowClient, tmp_path: Path, spec: Spec, opened: Callable[..., Ledger]
    ) -> None:
        ledger = opened(spec, owner=Owner.here())
        ensure_run(client, sweep_identity(spec.model_dump(mode="json")))
        ledger.propose()
        ensure_run(client, trial_identity(spec.model_dump(mode="json"), 0))
        said: list[str] = []
        sync(Clients(client), LocalStore(tmp_path), None, [], said.append)
        assert len(said) == 1
        assert said[0].startswith("left alone: sweep probe is owned by process ")
        assert states(client) == {"probe": "RUNNING", "probe/0": "RUNNING"}
        ledger.ownership.check()

    def test_of_which_a_run_is_refused_has_all_others_as_the_ledger_says(
        self, left: Ledger, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refused, log_batch = runs_by_key(client, "probe")["probe/0"].info.run_id, client.log_batch

        def refuse(run_id: str, *args: Any, **batch: Any) -> None:
            if run_id == refused:
                raise MlflowException("not yours", error_code=PERMISSION_DENIED)
            log_batch(run_id, *args, **batch)

        monkeypatch.setattr(client, "log_batch", refuse)
        left.hold_baseline(
            Row(
                number=BASELINE_NUMBER,
                params={},
                state=TrialState.COMPLETE,
                reason="",
                curve={},
                account=Account(attempts=1),
            )
        )
        with pytest.raises(UserError, match=r"^sweep probe: trial 0: not yours: who asks may not do that"):
            sync(Clients(client), LocalStore(tmp_path), None, [], print)
        assert states(client) == {
            "probe": "KILLED",
            "probe/baseline": "FINISHED",
            "probe/0": "RUNNING",
            "probe/1": "KILLED",
        }

    def test_stops_no_other_if_it_cannot_be_synced(
        self,
        client: MlflowClient,
        tmp_path: Path,
        make_spec: Callable[..., Spec],
        opened: Callable[..., Ledger],
    ) -> None:
        for name in ("aa", "bb", "cc"):
            opened(make_spec(f"name={name}")).propose()
        client.delete_experiment(client.create_experiment("bb"))
        said: list[str] = []
        with pytest.raises(UserError, match=r"^sweep bb: the experiment bb in MLflow at .* is deleted"):
            sync(Clients(client), LocalStore(tmp_path), None, [], said.append)
        assert said == [f"sweep {name}: its runs are as its ledger has them" for name in ("aa", "cc")]
        assert {run.info.status for name in ("aa", "cc") for run in runs_by_key(client, name).values()} == {"KILLED"}

    def test_stops_no_other_if_its_storage_is_away(
        self, client: MlflowClient, tmp_path: Path, make_spec: Callable[..., Spec], opened: Callable[..., Ledger]
    ) -> None:
        class Away(LocalStore):
            def keys(self, prefix: str = "") -> list[str]:
                if prefix in ("", "aa"):
                    raise StoreError("on here: s3://runs cannot be used")
                return super().keys(prefix)

        for name in ("aa", "bb"):
            opened(make_spec(f"name={name}")).propose()
        said: list[str] = []
        with pytest.raises(UserError) as told:
            sync(Clients(client), Away(tmp_path), None, [], said.append)
        assert said == ["sweep bb: its runs are as its ledger has them"]
        assert str(told.value).splitlines()[1:] == [
            "  sweep aa: on here: s3://runs cannot be used",
            "  trainings without a sweep: on here: s3://runs cannot be used",
        ]

    def test_is_synced_on_the_server_that_has_its_runs(
        self, left: Ledger, client: MlflowClient, elsewhere: MlflowClient, tmp_path: Path
    ) -> None:
        identity = sweep_identity(left.spec.model_dump(mode="json"))
        note(
            LocalStore(tmp_path / "probe"),
            client.tracking_uri,
            identity,
            runs_by_key(client, "probe")["probe"].info.run_id,
        )
        sync(Clients(elsewhere), LocalStore(tmp_path), None, [], print)
        assert states(client) == {"probe": "KILLED", "probe/0": "FINISHED", "probe/1": "KILLED"}
        assert elsewhere.get_experiment_by_name("probe") is None

    def test_is_synced_on_the_server_of_now_if_that_has_its_runs_under_another_address(
        self, left: Ledger, client: MlflowClient, elsewhere: MlflowClient, tmp_path: Path
    ) -> None:
        identity = sweep_identity(left.spec.model_dump(mode="json"))
        note(
            LocalStore(tmp_path / "probe"),
            elsewhere.tracking_uri,
            identity,
            runs_by_key(client, "probe")["probe"].info.run_id,
        )
        sync(Clients(client), LocalStore(tmp_path), None, [], print)
        assert states(client) == {"probe": "KILLED", "probe/0": "FINISHED", "probe/1": "KILLED"}
        assert elsewhere.get_experiment_by_name("probe") is None

    def test_another_server_is_not_shown_the_account_of_the_local_one(
        self,
        left: Ledger,
        client: MlflowClient,
        elsewhere: MlflowClient,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv(PASSWORD_PATH, str(tmp_path / "password"))
        identity = sweep_identity(left.spec.model_dump(mode="json"))
        note(
            LocalStore(tmp_path / "probe"),
            client.tracking_uri,
            identity,
            runs_by_key(client, "probe")["probe"].info.run_id,
        )
        with pytest.raises(UserError, match=r"^sweep probe: its runs are on the MLflow server at .*: set MLFLOW_TRACK"):
            sync(Clients(elsewhere), LocalStore(tmp_path), None, [], print)
        assert states(client) == {"probe": "RUNNING", "probe/0": "RUNNING", "probe/1": "RUNNING"}

    @pytest.mark.usefixtures("left")
    def test_without_a_server_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(
            UserError, match=r"^sweep probe: the MLflow server of now does not answer: start it, or set"
        ):
            sync(Clients(None), LocalStore(tmp_path), None, [], print)

    @pytest.mark.usefixtures("left")
    def test_whose_name_another_ledger_has_in_mlflow_is_left_alone(self, client: MlflowClient, tmp_path: Path) -> None:
        run_id = runs_by_key(client, "probe")["probe"].info.run_id
        client.set_tag(run_id, ID_TAG, "another")
        with pytest.raises(
            UserError, match=r"^sweep probe: the experiment probe in MLflow at .* holds probe of another"
        ):
            sync(Clients(client), LocalStore(tmp_path), None, [], print)
        assert states(client) == {"probe": "RUNNING", "probe/0": "RUNNING", "probe/1": "RUNNING"}
        assert miou(client, "probe/0") == []

    @pytest.mark.usefixtures("left")
    def test_whose_ledger_was_moved_has_its_runs_still(self, client: MlflowClient, tmp_path: Path) -> None:
        sync(Clients(client), LocalStore(tmp_path), None, [], print)
        before = runs_by_key(client, "probe")
        moved = tmp_path / "moved"
        shutil.copytree(tmp_path / "probe", moved / "probe")
        with (
            closing(sqlite3.connect(ledger_file(tmp_path))) as old,
            closing(sqlite3.connect(ledger_file(moved))) as new,
        ):
            old.backup(new)
        said: list[str] = []
        sync(Clients(client), LocalStore(moved), None, [], said.append)
        assert said == ["sweep probe: its runs are as its ledger has them"]
        assert runs_by_key(client, "probe").keys() == before.keys()

    @pytest.mark.usefixtures("left")
    def test_that_is_unknown_is_told_with_those_that_are_not(self, client: MlflowClient, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="there is no sweep prob; known sweeps: probe"):
            sync(Clients(client), LocalStore(tmp_path), None, ["prob"], print)

    def test_is_abandoned_if_its_owner_is_gone_without_giving_it_up(
        self, spec: Spec, opened: Callable[..., Ledger], tmp_path: Path
    ) -> None:
        assert abandoned_sweeps(tmp_path) == []
        opened(spec)
        assert abandoned_sweeps(tmp_path) == ["probe"]
        assert not read_sweep(tmp_path, "probe").is_owned
        opened(spec, owner=Owner.here())
        assert abandoned_sweeps(tmp_path) == []
        assert read_sweep(tmp_path, "probe").is_owned


class TestDriver:
    """At its end, that of another sweep."""

    @pytest.fixture
    def job(
        self, write_spec: Callable[..., Path], document: dict[str, Any], client: MlflowClient, tmp_path: Path
    ) -> Job:
        return Job(path=write_spec({**document, "storage": str(tmp_path)}), tracking_uri=client.tracking_uri)

    @pytest.mark.usefixtures("left")
    def test_ends_the_runs_of_a_sweep_whose_own_was_killed(self, job: Job, client: MlflowClient) -> None:
        reap_others(job)
        assert states(client) == {"probe": "KILLED", "probe/0": "FINISHED", "probe/1": "KILLED"}

    def test_leaves_one_alone_whose_own_lives(
        self, job: Job, client: MlflowClient, spec: Spec, opened: Callable[..., Ledger]
    ) -> None:
        opened(spec, owner=Owner.here()).propose()
        ensure_run(client, sweep_identity(spec.model_dump(mode="json")))
        reap_others(job)
        assert states(client) == {"probe": "RUNNING"}

    @pytest.mark.usefixtures("left")
    def test_is_not_lost_if_that_fails(
        self, job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def away(*_: object) -> None:
            raise ConnectionError("no answer")

        monkeypatch.setattr("advseg.jobs.sweep.sync_sweeps", away)
        reap_others(job)
        assert caplog.messages == ["the runs of sweeps without drivers stay open: no answer"]


@pytest.fixture
def training(make_spec: Callable[..., Spec], client: MlflowClient, tmp_path: Path) -> Task:
    """A training without a sweep, which has reported once and has an open run."""
    document: dict[str, Any] = make_spec("job=train", "sweep=null").model_dump(mode="json")
    task = Task(spec=document, store=LocalStore(tmp_path), tracking_uri="", identity=single_identity(document))
    note(task.own, client.tracking_uri, task.identity, ensure_run(client, task.identity))
    Spool(task.own.folder / METRICS).append({"step": 8, "timestamp": 1000, "metrics": {"val/miou": 50.0}})
    beat(task, 1.0)
    return task


def beat(task: Task, seconds: float) -> None:
    said = Beat(epoch=0, attempt=1, step=8, seconds=seconds, pid=1, node="")
    (task.own.folder / FILE).write_text(json.dumps(asdict(said)))


@pytest.fixture
def elsewhere(migrated: Path, tmp_path: Path) -> MlflowClient:
    """Another MLflow."""
    (tmp_path / "elsewhere.db").write_bytes(migrated.read_bytes())
    return MlflowClient(f"sqlite:///{tmp_path / 'elsewhere.db'}")


class TestTraining:
    def test_whose_process_is_gone_is_ended_with_all_that_it_reported(
        self, training: Task, client: MlflowClient, tmp_path: Path
    ) -> None:
        said: list[str] = []
        sync_trainings(Clients(client), LocalStore(tmp_path), said.append, patience_s=0.3)
        assert said == ["training probe/single: what it left is in its run"]
        assert states(client) == {"probe/single": "KILLED"}
        assert miou(client, "probe/single") == [50.0]
        assert not has_unsent(training.own.folder / METRICS)

    @pytest.mark.usefixtures("left")
    def test_of_a_sweeps_name_is_ended_beside_it(self, training: Task, client: MlflowClient, tmp_path: Path) -> None:
        sync_trainings(Clients(client), LocalStore(tmp_path), print, patience_s=0.3)
        assert states(client) == {
            "probe": "RUNNING",
            "probe/0": "RUNNING",
            "probe/1": "RUNNING",
            "probe/single": "KILLED",
        }

    def test_that_is_anothers_in_mlflow_is_left_alone(
        self, training: Task, client: MlflowClient, tmp_path: Path
    ) -> None:
        run_id = ensure_run(client, replace(training.identity, id="another"))
        note(training.own, client.tracking_uri, replace(training.identity, id="ours"), run_id)
        problems = sync_trainings(Clients(client), LocalStore(tmp_path), print, patience_s=0.3)
        assert [problem.split(" in MLflow")[0] for problem in problems] == [
            "training probe/single: the experiment probe"
        ]
        assert states(client) == {"probe/single": "RUNNING"}

    def test_whose_heart_beats_is_left_alone(self, training: Task, client: MlflowClient, tmp_path: Path) -> None:
        ended = threading.Event()

        def live() -> None:
            seconds = 1.0
            while not ended.wait(0.05):
                seconds += 0.05
                beat(training, seconds)

        thread = threading.Thread(target=live)
        thread.start()
        said: list[str] = []
        try:
            sync_trainings(Clients(client), LocalStore(tmp_path), said.append)
        finally:
            ended.set()
            thread.join()
        assert said == ["left alone: training probe/single is at work"]
        assert states(client) == {"probe/single": "RUNNING"}

    @pytest.mark.usefixtures("training")
    def test_that_has_ended_and_left_nothing_is_not_waited_for(self, client: MlflowClient, tmp_path: Path) -> None:
        sync_trainings(Clients(client), LocalStore(tmp_path), print, patience_s=0.3)
        said: list[str] = []
        sync_trainings(Clients(client), LocalStore(tmp_path), said.append, patience_s=10**6)
        assert said == []

    @pytest.mark.usefixtures("training")
    def test_is_ended_on_the_server_that_has_its_run(
        self, client: MlflowClient, elsewhere: MlflowClient, tmp_path: Path
    ) -> None:
        sync_trainings(Clients(elsewhere), LocalStore(tmp_path), print, patience_s=0.3)
        assert states(client) == {"probe/single": "KILLED"}
        assert elsewhere.get_experiment_by_name("probe") is None

    def test_that_failed_keeps_state_reason_and_time_and_gets_what_it_left(
        self, training: Task, client: MlflowClient, tmp_path: Path
    ) -> None:
        run_id = runs_by_key(client, "probe")["probe/single"].info.run_id
        close_run(client, run_id, Ending(State.FAIL, "diverged: loss/ce at step 9"))
        before = client.get_run(run_id).info.end_time
        sync_trainings(Clients(client), LocalStore(tmp_path), print, patience_s=0.3)
        run = client.get_run(run_id)
        assert (run.info.status, run.data.tags["advseg.reason"]) == ("FAILED", "diverged: loss/ce at step 9")
        assert run.info.end_time == before
        assert not has_unsent(training.own.folder / METRICS)

    def test_whose_mlflow_was_away_all_the_time_gets_a_run(
        self, training: Task, client: MlflowClient, tmp_path: Path
    ) -> None:
        client.delete_run(runs_by_key(client, "probe")["probe/single"].info.run_id)
        sync_trainings(Clients(client), LocalStore(tmp_path), print, patience_s=0.3)
        assert states(client) == {"probe/single": "KILLED"}
        assert miou(client, "probe/single") == [50.0]

    def test_of_a_sweep_in_another_ledger_is_left_alone(
        self, client: MlflowClient, tmp_path: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without `--ledger` nothing is known of a sweep in PostgreSQL but its folder."""
        document = spec.model_dump(mode="json")
        ensure_run(client, sweep_identity(document))
        for trial in (0, 1, "baseline"):
            identity = trial_identity(document, trial)
            folder = tmp_path / identity.key
            MlflowReporter(client.tracking_uri, identity, folder / "metrics.jsonl", head_start_s=60).leave()
            note(LocalStore(folder), client.tracking_uri, identity, ensure_run(client, identity))
            Spool(folder / "metrics.jsonl").append({"step": 8, "timestamp": 1000, "metrics": {"val/miou": 50.0}})
        said: list[str] = []
        sync(Clients(client), LocalStore(tmp_path), None, [], said.append)
        assert said == []
        assert set(states(client).values()) == {"RUNNING"}

    def test_stops_no_other_if_it_is_refused_or_damaged(
        self, training: Task, client: MlflowClient, tmp_path: Path
    ) -> None:
        others = {}
        for name in ("deleted", "other", "zero"):
            identity = replace(training.identity, experiment=name, key=f"{name}/single")
            others[name] = replace(training, identity=identity)
            note(others[name].own, client.tracking_uri, identity, ensure_run(client, identity))
            Spool(others[name].own.folder / METRICS).append(
                {"step": 8, "timestamp": 1000, "metrics": {"val/miou": 50.0}}
            )
        client.delete_experiment(client.get_experiment_by_name("deleted").experiment_id)
        (others["zero"].own.folder / METRICS).write_bytes(b"\0" * 100 + b"\n")
        said: list[str] = []
        problems = sync_trainings(Clients(client), LocalStore(tmp_path), said.append, patience_s=0.3)
        assert [problem.split(" in MLflow")[0] for problem in problems] == [
            "training deleted/single: the experiment deleted"
        ]
        assert said == [f"training {name}/single: what it left is in its run" for name in ("other", "probe", "zero")]
