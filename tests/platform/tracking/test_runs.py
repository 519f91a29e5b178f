import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from advseg.platform.storage.local_store import LocalStore
from advseg.platform.tracking.ending import Ending, State
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.noted import Noted, read_noted
from advseg.platform.tracking.reporter import SYSTEM, MlflowReporter
from advseg.platform.tracking.runs import (
    ID_TAG,
    KEY_TAG,
    REASON_TAG,
    STATE_TAG,
    close_run,
    ensure_run,
    experiment_id,
    find_run,
    refuse_another,
    run_url,
    runs_by_key,
)
from advseg.platform.tracking.spool import Spool, has_unsent
from advseg.trainers.errors import UserError
from advseg.trainers.reporter import Report

SWEEP = RunIdentity(experiment="probe", key="probe", params={"trainer.steps": 8})
TRIAL = RunIdentity(experiment="probe", key="probe/0", parent="probe", params={"crop": [16, 16], "lr": 0.5})


def runs(client: MlflowClient) -> list[Any]:
    return list(client.search_runs([experiment_id(client, "probe")]))


def report(step: int, **metrics: float) -> Report:
    return Report(step=step, steps=8, metrics={"val/miou": 10.0 * step, **metrics})


class TestRun:
    def test_is_created_once_for_a_key(self, client: MlflowClient) -> None:
        ids = {ensure_run(client, SWEEP) for _ in range(3)}
        assert ids == {run.info.run_id for run in runs(client)}
        assert len(ids) == 1

    def test_has_key_parent_name_and_params(self, client: MlflowClient) -> None:
        parent = ensure_run(client, SWEEP)
        run = client.get_run(ensure_run(client, TRIAL))
        assert run.data.params == {"crop": "[16, 16]", "lr": "0.5"}
        assert run.data.tags[KEY_TAG] == run.info.run_name == "probe/0"
        assert run.data.tags["mlflow.parentRunId"] == parent

    def test_of_another_ledger_is_refused_and_stays_as_it_is(self, client: MlflowClient) -> None:
        run_id = ensure_run(client, replace(SWEEP, id="a"))
        ensure_run(client, replace(TRIAL, id="a"))
        close_run(client, run_id, Ending(State.COMPLETE))
        before = {run.info.run_id: run.to_dictionary() for run in runs(client)}
        stranger = replace(SWEEP, id="b", params={"new": 1}, tags={"new": "1"})
        for use in (refuse_another, ensure_run):
            for identity in (stranger, replace(TRIAL, id="b")):
                with pytest.raises(
                    UserError, match=rf"holds {identity.key} of another ledger.* --set name=probe-2"
                ) as told:
                    use(client, identity)
                assert "\n" not in str(told.value)
        assert {run.info.run_id: run.to_dictionary() for run in runs(client)} == before

    def test_of_two_ledgers_at_the_same_moment_is_refused_to_one_at_least(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create = client.create_run

        def meanwhile(experiment: str, **more: Any) -> Any:
            create(experiment, tags={KEY_TAG: "probe", ID_TAG: "b"})
            return create(experiment, **more)

        with monkeypatch.context() as patch:
            patch.setattr(client, "create_run", meanwhile)
            with pytest.raises(UserError, match="another ledger"):
                ensure_run(client, replace(SWEEP, id="a"))
        assert [run.data.tags[ID_TAG] for run in runs(client)] == ["b"]
        ensure_run(client, replace(SWEEP, id="b"))

    def test_of_before_ids_is_taken_on(self, client: MlflowClient) -> None:
        run_id = ensure_run(client, SWEEP)
        refuse_another(client, replace(SWEEP, id="a"))
        assert ensure_run(client, replace(SWEEP, id="a")) == run_id
        assert client.get_run(run_id).data.tags[ID_TAG] == "a"

    def test_of_a_single_training_stands_beside_those_of_a_sweep_of_its_name(self, client: MlflowClient) -> None:
        ensure_run(client, replace(SWEEP, id="a"))
        single = RunIdentity(experiment="probe", key="probe/single", id="c")
        ensure_run(client, single)
        trial = ensure_run(client, replace(TRIAL, id="a"))
        assert find_run(client, "probe", "probe/single") not in (None, trial)
        with pytest.raises(UserError, match="holds probe/single of another"):
            refuse_another(client, replace(single, id="d"))

    def test_is_not_found_before_it_is_created(self, client: MlflowClient) -> None:
        assert find_run(client, "probe", "probe") is None
        assert runs_by_key(client, "probe") == {}
        assert client.get_experiment_by_name("probe") is None, "who only looks makes nothing"

    def test_of_another_key_is_another(self, client: MlflowClient) -> None:
        assert ensure_run(client, SWEEP) != ensure_run(client, TRIAL)

    @pytest.mark.parametrize(
        ("state", "status"),
        [("COMPLETE", "FINISHED"), ("PRUNED", "KILLED"), ("FAIL", "FAILED"), ("STOPPED", "KILLED")],
    )
    def test_ends_with_its_trials_state(self, client: MlflowClient, state: str, status: str) -> None:
        close_run(client, ensure_run(client, SWEEP), Ending(State(state), "because"))
        (run,) = runs(client)
        assert run.info.status == status
        assert (run.data.tags[STATE_TAG], run.data.tags[REASON_TAG]) == (state, "because")
        assert run.info.end_time

    def test_that_has_ended_keeps_its_time_when_it_is_ended_again(self, client: MlflowClient) -> None:
        run_id = ensure_run(client, SWEEP)
        start = client.get_run(run_id).info.start_time
        for end_time in (start + 500, start + 400, None):
            close_run(client, run_id, Ending(State.COMPLETE), end_time=end_time)
            assert client.get_run(run_id).info.end_time == start + 500

    def test_that_went_on_after_its_end_ends_later(self, client: MlflowClient) -> None:
        run_id = ensure_run(client, SWEEP)
        start = client.get_run(run_id).info.start_time
        for end_time in (start + 500, start + 900):
            close_run(client, run_id, Ending(State.STOPPED), end_time=end_time)
            assert client.get_run(run_id).info.end_time == end_time

    def test_that_is_made_after_its_training_has_ended_lasts_no_time(self, client: MlflowClient) -> None:
        run_id = ensure_run(client, SWEEP)
        close_run(client, run_id, Ending(State.COMPLETE), end_time=1000)
        info = client.get_run(run_id).info
        assert info.end_time == info.start_time

    def test_without_the_parent_that_somebody_deleted_is_made_all_the_same(self, client: MlflowClient) -> None:
        client.delete_run(ensure_run(client, SWEEP))
        assert "mlflow.parentRunId" not in client.get_run(ensure_run(client, TRIAL)).data.tags

    def test_in_an_experiment_that_was_deleted_is_refused_with_the_remedy(self, client: MlflowClient) -> None:
        client.delete_experiment(experiment_id(client, "probe"))
        with pytest.raises(UserError, match=r"the experiment probe in MLflow at .* is deleted.*mlflow experiments re"):
            ensure_run(client, SWEEP)

    def test_is_reopened_when_its_training_goes_on(self, client: MlflowClient) -> None:
        run_id = ensure_run(client, SWEEP)
        close_run(client, run_id, Ending(State.STOPPED))
        assert ensure_run(client, SWEEP) == run_id
        assert client.get_run(run_id).info.status == "RUNNING"

    def test_stays_ended_for_those_who_only_bring_what_is_left(self, client: MlflowClient) -> None:
        run_id = ensure_run(client, SWEEP)
        close_run(client, run_id, Ending(State.PRUNED))
        assert ensure_run(client, SWEEP, reopen=False) == run_id
        assert client.get_run(run_id).info.status == "KILLED"

    def test_gets_its_params_also_if_a_crash_came_before_them(self, client: MlflowClient) -> None:
        experiment = experiment_id(client, "probe")
        client.create_run(experiment, tags={KEY_TAG: "probe"})
        assert client.get_run(ensure_run(client, SWEEP)).data.params == {"trainer.steps": "8"}

    def test_keeps_params_that_are_logged_already(self, client: MlflowClient) -> None:
        ensure_run(client, SWEEP)
        again = RunIdentity(experiment="probe", key="probe", params={"trainer.steps": 9, "new": 1})
        assert client.get_run(ensure_run(client, again)).data.params == {"trainer.steps": "8", "new": "1"}

    def test_takes_a_reason_of_any_length(self, client: MlflowClient) -> None:
        run_id = ensure_run(client, SWEEP)
        close_run(client, run_id, Ending(State.FAIL, "x" * 20_000))
        assert client.get_run(run_id).info.status == "FAILED"

    def test_has_the_tags_of_its_identity_also_if_they_come_later(self, client: MlflowClient) -> None:
        ensure_run(client, SWEEP)
        run = client.get_run(ensure_run(client, replace(SWEEP, tags={"advseg.accumulation": "2"})))
        assert run.data.tags["advseg.accumulation"] == "2"
        assert run.data.tags[KEY_TAG] == "probe"

    def test_is_found_by_its_key_among_many(self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
        ids = {}
        for number in range(5):
            identity = replace(SWEEP, key=f"probe/{number}")
            ids[identity.key] = ensure_run(client, identity)
        client.create_run(experiment_id(client, "probe"))
        search = client.search_runs
        monkeypatch.setattr(
            client, "search_runs", lambda *args, max_results, **more: search(*args, max_results=2, **more)
        )
        assert {key: run.info.run_id for key, run in runs_by_key(client, "probe").items()} == ids

    def test_is_the_oldest_of_its_key(self, client: MlflowClient) -> None:
        first = ensure_run(client, SWEEP)
        client.create_run(experiment_id(client, "probe"), tags={KEY_TAG: "probe"})
        assert find_run(client, "probe", "probe") == first
        assert runs_by_key(client, "probe")["probe"].info.run_id == first

    def test_is_one_also_if_the_answer_to_its_creation_was_lost(
        self, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """MLflow's client repeats the request then."""
        create = client.create_run

        def repeated(*args: Any, **more: Any) -> Any:
            create(*args, **more)
            return create(*args, **more)

        monkeypatch.setattr(client, "create_run", repeated)
        run_id = ensure_run(client, SWEEP)
        assert [run.info.run_id for run in runs(client)] == [run_id]
        assert runs(client)[0].data.params == {"trainer.steps": "8"}

    def test_that_was_written_to_stays_if_another_of_its_key_turns_up_late(self, client: MlflowClient) -> None:
        run_id = ensure_run(client, SWEEP)
        client.create_run(experiment_id(client, "probe"), start_time=1, tags={KEY_TAG: "probe"})
        assert runs_by_key(client, "probe")["probe"].info.run_id == run_id
        assert ensure_run(client, SWEEP) == run_id
        assert [run.info.run_id for run in runs(client)] == [run_id]

    def test_has_a_page_of_its_own(self, client: MlflowClient) -> None:
        run_id = ensure_run(client, SWEEP)
        assert run_url(client, run_id).endswith(f"/#/experiments/{experiment_id(client, 'probe')}/runs/{run_id}")

    def test_experiment_is_made_once(self, client: MlflowClient) -> None:
        assert experiment_id(client, "probe") == experiment_id(client, "probe")


class TestReporter:
    @staticmethod
    def history(client: MlflowClient, key: str = "val/miou") -> list[tuple[int, float]]:
        (run,) = [run for run in runs(client) if run.data.tags[KEY_TAG] == "probe"]
        return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)]

    def test_sends_every_report_and_the_artifacts_and_leaves_the_end_to_the_driver(
        self, client: MlflowClient, tmp_path: Path
    ) -> None:
        keep = ("log.txt", "no such file")
        reporter = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl", keep)
        for step in (2, 4, 8):
            reporter.report(report(step, **{"loss/ce": 1.0}))
        (tmp_path / "log.txt").write_text("hello")
        reporter.close()
        assert self.history(client) == [(2, 20.0), (4, 40.0), (8, 80.0)]
        assert self.history(client, "loss/ce") == [(2, 1.0), (4, 1.0), (8, 1.0)]
        assert len(self.history(client, "system/cpu_utilization_percentage")) == 1
        (run,) = runs(client)
        assert run.info.status == "RUNNING"
        assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == ["log.txt"]

    def test_sends_what_is_in_folders_as_it_appears(self, client: MlflowClient, tmp_path: Path) -> None:
        reporter = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl", ("panels", "log.txt"))
        for step in (2, 4):
            panel = tmp_path / "panels" / f"step-{step}.png"
            panel.parent.mkdir(exist_ok=True)
            panel.write_text(f"a picture of step {step}")
            reporter.report(report(step))
            wait_until(lambda path=f"panels/{panel.name}": path in self.artifacts(client, "panels"))
        assert "log.txt" not in self.artifacts(client)
        reporter.close()
        assert self.artifacts(client, "panels") == ["panels/step-2.png", "panels/step-4.png"]

    @staticmethod
    def artifacts(client: MlflowClient, folder: str | None = None) -> list[str]:
        return [file.path for run in runs(client) for file in client.list_artifacts(run.info.run_id, folder)]

    def test_measures_the_machine_meanwhile_also_over_a_restart(self, client: MlflowClient, tmp_path: Path) -> None:
        for _ in range(2):
            reporter = MlflowReporter(
                client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl", head_start_s=0, system_every_s=0.01
            )
            before = len(Spool(tmp_path / SYSTEM).records())
            wait_until(lambda before=before: len(Spool(tmp_path / SYSTEM).records()) >= before + 2)
            reporter.close()
        steps = [step for step, _ in self.history(client, "system/system_memory_usage_percentage")]
        assert steps == list(range(len(Spool(tmp_path / SYSTEM).records())))

    def test_knows_its_run_once_it_has_sent(self, client: MlflowClient, tmp_path: Path) -> None:
        reporter = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl")
        reporter.report(report(2))
        wait_until(lambda: reporter.run_id is not None)
        reporter.close()
        assert reporter.run_id == find_run(client, "probe", "probe")

    def test_that_is_left_leaves_its_run_open_for_whoever_goes_on(self, client: MlflowClient, tmp_path: Path) -> None:
        first = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl")
        first.report(report(2))
        wait_until(lambda: Spool(tmp_path / "metrics.jsonl").unsent() == [])
        first.leave()
        (run,) = runs(client)
        assert (run.info.status, STATE_TAG in run.data.tags) == ("RUNNING", False)
        second = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl")
        second.report(report(4))
        second.close()
        assert self.history(client) == [(2, 20.0), (4, 40.0)]
        assert len(runs(client)) == 1

    def test_a_resumed_training_sends_each_step_once(self, client: MlflowClient, tmp_path: Path) -> None:
        first = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "run" / "metrics.jsonl")
        for step in (2, 4):
            first.report(report(step))
        first.close()
        second = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "run" / "metrics.jsonl")
        # Killed between reporting and saving, it makes step 4 again.
        for step in (4, 6):
            second.report(report(step))
        second.close()
        assert self.history(client) == [(2, 20.0), (4, 40.0), (6, 60.0)]

    def test_what_was_sent_but_not_marked_before_a_crash_arrives_once(
        self, client: MlflowClient, tmp_path: Path
    ) -> None:
        spool = Spool(tmp_path / "run" / "metrics.jsonl")
        spool.append({"step": 2, "timestamp": 1234, "metrics": {"val/miou": 20.0}})
        spool.append({"step": 4, "timestamp": 1235, "metrics": {"val/miou": 40.0}})
        client.log_batch(ensure_run(client, SWEEP), metrics=[Metric("val/miou", 20.0, 1234, 2)])
        MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "run" / "metrics.jsonl").close()
        assert self.history(client) == [(2, 20.0), (4, 40.0)]
        assert Spool(tmp_path / "run" / "metrics.jsonl").unsent() == []

    def test_sends_more_metrics_than_one_request_takes(self, client: MlflowClient, tmp_path: Path) -> None:
        reporter = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "run" / "metrics.jsonl")
        reporter.report(Report(step=1, steps=8, metrics={f"m{i}": float(i) for i in range(1500)}))
        reporter.close()
        (run,) = runs(client)
        assert len([name for name in run.data.metrics if not name.startswith("system/")]) == 1500

    def test_a_run_that_somebody_deletes_meanwhile_is_made_again_with_all(
        self, client: MlflowClient, tmp_path: Path
    ) -> None:
        reporter = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl", retry_s=0.01)
        reporter.report(report(2))
        wait_until(lambda: Spool(tmp_path / "metrics.jsonl").unsent() == [])
        client.delete_run(find_run(client, "probe", "probe") or "")
        reporter.report(report(4))
        wait_until(lambda: find_run(client, "probe", "probe") is not None)
        reporter.close()
        assert self.history(client) == [(2, 20.0), (4, 40.0)]
        assert reporter.run_id == find_run(client, "probe", "probe")

    def test_in_an_experiment_that_somebody_deleted_waits_for_it_and_says_so_once(
        self, client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        experiment = experiment_id(client, "probe")
        client.delete_experiment(experiment)
        reporter = MlflowReporter(
            client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl", head_start_s=0, retry_s=0.01, system_every_s=0.01
        )
        reporter.report(report(2))
        wait_until(lambda: "is deleted, and its name still taken: restore it" in caplog.text)
        before = len(Spool(tmp_path / SYSTEM).records())
        wait_until(lambda: len(Spool(tmp_path / SYSTEM).records()) > before + 2)
        assert caplog.text.count("is deleted") == 1
        client.restore_experiment(experiment)
        wait_until(lambda: Spool(tmp_path / "metrics.jsonl").unsent() == [])
        reporter.close()
        assert self.history(client) == [(2, 20.0)]

    def test_at_the_end_does_not_wait_for_what_is_refused(
        self, client: MlflowClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.delete_experiment(experiment_id(client, "probe"))
        reporter = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl", farewell_s=60)
        reporter.report(report(2))
        started = time.monotonic()
        reporter.close()
        assert time.monotonic() - started < 30
        assert has_unsent(tmp_path / "metrics.jsonl")
        assert "does not answer" not in caplog.text

    def test_goes_on_where_the_machine_cannot_be_measured(
        self, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A container may have no counters of a network, and a driver may fail at any time."""

        def broken(*_: Any, **__: Any) -> Any:
            raise AttributeError("'NoneType' object has no attribute 'bytes_sent'")

        monkeypatch.setattr("psutil.net_io_counters", lambda *_, **__: None)
        monkeypatch.setattr("psutil.virtual_memory", broken)
        reporter = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl")
        reporter.report(report(2))
        reporter.close()
        assert self.history(client) == [(2, 20.0)]
        (run,) = runs(client)
        assert "system/disk_usage_percentage" in run.data.metrics
        assert not [name for name in run.data.metrics if "network" in name]
        assert "CPUMonitor measures no more" in caplog.text

    @pytest.mark.parametrize("what", ["__init__", "measure"])
    def test_goes_on_where_measuring_breaks_as_a_whole(
        self,
        client: MlflowClient,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        what: str,
    ) -> None:
        def broken(*_: object) -> dict[str, float]:
            raise OSError("no space left on device")

        monkeypatch.setattr(f"advseg.platform.tracking.system_metrics.SystemMetrics.{what}", broken)
        reporter = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl")
        reporter.report(report(2))
        reporter.close()
        assert self.history(client) == [(2, 20.0)]
        assert "the machine of probe is not measured: no space left on device" in caplog.text

    def test_notes_where_its_run_is(self, client: MlflowClient, tmp_path: Path) -> None:
        MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl", head_start_s=60).leave()
        noted = Noted(tracking_uri=client.tracking_uri, identity=SWEEP)
        assert read_noted(LocalStore(tmp_path)) == noted
        reporter = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl")
        reporter.report(report(2))
        reporter.close()
        assert read_noted(LocalStore(tmp_path)) == replace(noted, run_id=reporter.run_id)

    @pytest.mark.parametrize("damage", [b"", b"\0\0", b"[", b"7"])
    @pytest.mark.parametrize("file", ["metrics.sent", "artifacts.json", "tracking.json"])
    def test_a_file_that_a_power_cut_damaged_costs_nothing(
        self, client: MlflowClient, tmp_path: Path, file: str, damage: bytes
    ) -> None:
        for step in (2, 4):
            (tmp_path / file).write_bytes(damage)
            reporter = MlflowReporter(client.tracking_uri, SWEEP, tmp_path / "metrics.jsonl", ["log.txt"])
            (tmp_path / "log.txt").write_text("hello")
            reporter.report(report(step))
            reporter.close()
        assert self.history(client) == [(2, 20.0), (4, 40.0)]
        assert self.artifacts(client) == ["log.txt"]


class FakeClient:
    """An MLflow client whose server can be away, answer never, or come back."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.release = threading.Event()
        self.release.set()
        self.calls: list[str] = []
        self.steps: list[int] = []
        self.called = threading.Event()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self.called.set()
            self.release.wait(300)
            if self.error:
                raise self.error
            self.calls.append(name)
            reported = [metric for metric in keywords.get("metrics", []) if not metric.key.startswith("system/")]
            self.steps += [metric.step for metric in reported]
            if name.startswith("search"):
                return [FakeAnswer()] if "create_run" in self.calls else []
            return [] if name.startswith("list") else FakeAnswer()

        return call


class FakeAnswer:
    """Whatever a server answers: a run, an experiment, its info."""

    experiment_id = run_id = "1"
    params: dict[str, str]

    def __init__(self) -> None:
        self.params = {}

    def __getattr__(self, name: str) -> "FakeAnswer":
        return self


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr("mlflow.tracking.MlflowClient", lambda uri: fake)
    return fake


UNREACHABLE = [MlflowException("no answer"), ConnectionError("no answer"), OSError("an artifact store's own")]


class TestWithoutServer:
    @staticmethod
    def start(tmp_path: Path, farewell_s: float = 0.2, head_start_s: float = 0) -> MlflowReporter:
        return MlflowReporter(
            "http://nowhere",
            SWEEP,
            tmp_path / "metrics.jsonl",
            farewell_s=farewell_s,
            retry_s=0.01,
            head_start_s=head_start_s,
        )

    def test_a_training_is_left_alone_until_it_reports(self, server: FakeClient, tmp_path: Path) -> None:
        reporter = self.start(tmp_path, farewell_s=300, head_start_s=60)
        assert not server.called.wait(0.1)
        reporter.report(report(1))
        assert server.called.wait(300)
        reporter.close()
        assert server.steps == [1]

    def test_a_training_that_is_long_to_report_has_a_run_all_the_same(self, server: FakeClient, tmp_path: Path) -> None:
        reporter = self.start(tmp_path, farewell_s=300, head_start_s=0.01)
        wait_until(lambda: "create_run" in server.calls)
        reporter.close()
        assert "set_terminated" not in server.calls

    def test_reporting_returns_while_a_call_blocks(self, server: FakeClient, tmp_path: Path) -> None:
        server.release.clear()
        reporter = self.start(tmp_path, farewell_s=300)
        assert server.called.wait(300)
        started = time.monotonic()
        for step in range(1, 51):
            reporter.report(report(step))
        assert time.monotonic() - started < 60
        assert server.calls == []
        server.release.set()
        reporter.close()
        assert server.steps == list(range(1, 51))

    def test_closing_while_a_call_blocks_returns_in_time_and_keeps_the_spool(
        self, server: FakeClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.release.clear()
        reporter = self.start(tmp_path)
        reporter.report(report(1))
        started = time.monotonic()
        reporter.close()
        assert time.monotonic() - started < 60
        assert "metrics of probe stay in its spool" in caplog.text
        assert [record["step"] for record in Spool(tmp_path / "metrics.jsonl").unsent()] == [1]
        server.release.set()

    @pytest.mark.parametrize("error", UNREACHABLE, ids=lambda error: type(error).__name__)
    def test_closing_while_calls_fail_returns_in_time_and_keeps_the_spool(
        self, server: FakeClient, tmp_path: Path, error: Exception
    ) -> None:
        server.error = error
        reporter = self.start(tmp_path)
        reporter.report(report(1))
        started = time.monotonic()
        reporter.close()
        assert time.monotonic() - started < 60
        assert [record["step"] for record in Spool(tmp_path / "metrics.jsonl").unsent()] == [1]

    @pytest.mark.parametrize("error", UNREACHABLE, ids=lambda error: type(error).__name__)
    def test_all_is_sent_once_the_server_is_back(self, server: FakeClient, tmp_path: Path, error: Exception) -> None:
        server.error = error
        reporter = self.start(tmp_path, farewell_s=300)
        for step in (1, 2):
            reporter.report(report(step))
        assert server.called.wait(300)
        server.error = None
        reporter.report(report(3))
        reporter.close()
        assert server.steps == [1, 2, 3]
        assert "set_terminated" not in server.calls

    def test_a_server_that_is_away_is_told_once_each_time(
        self, server: FakeClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        reporter = self.start(tmp_path, farewell_s=30)
        for step in (1, 2):
            asked = [0]

            class Refused(MlflowException):
                """Every connection is another object, whose address its error names."""

                def __str__(self, asked: list[int] = asked) -> str:
                    asked[0] += 1
                    return f"<HTTPConnection object at {hex(asked[0])}>: connection refused"

            server.error = Refused("")
            reporter.report(report(step))
            wait_until(lambda asked=asked: asked[0] > 5)
            server.error = None
            wait_until(lambda step=step: server.steps[-1:] == [step])
            wait_until(lambda: Spool(tmp_path / "metrics.jsonl").unsent() == [])
        reporter.close()
        assert caplog.text.count("MLflow did not take metrics of probe, trying again") == 2

    def test_a_server_that_goes_away_at_the_very_end_delays_closing_no_longer(
        self, server: FakeClient, tmp_path: Path
    ) -> None:
        reporter = self.start(tmp_path)
        reporter.report(report(1))
        wait_until(lambda: server.steps == [1])
        server.release.clear()
        started = time.monotonic()
        reporter.close()
        assert time.monotonic() - started < 60
        server.release.set()

    def test_leaving_while_a_call_blocks_returns_in_time_and_keeps_the_spool(
        self, server: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("advseg.platform.tracking.reporter._LEAVE_S", 0.2)
        server.release.clear()
        reporter = self.start(tmp_path)
        reporter.report(report(1))
        assert server.called.wait(300)
        started = time.monotonic()
        reporter.leave()
        assert time.monotonic() - started < 60
        server.release.set()
        reporter._thread.join(300)
        assert not reporter._thread.is_alive()
        assert [record["step"] for record in Spool(tmp_path / "metrics.jsonl").unsent()] == [1]
        assert "set_terminated" not in server.calls

    def test_after_giving_up_the_run_belongs_to_whoever_resumes(self, server: FakeClient, tmp_path: Path) -> None:
        server.release.clear()
        given_up = self.start(tmp_path)
        given_up.report(report(1))
        given_up.close()
        server.release.set()
        given_up._thread.join(300)
        assert not given_up._thread.is_alive()
        assert "set_terminated" not in server.calls
        resumed = self.start(tmp_path, farewell_s=300)
        resumed.report(report(2))
        resumed.close()
        assert server.steps[-2:] == [1, 2]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)
