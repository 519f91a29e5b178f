"""Tracking in real MLflow servers over HTTP: on SQLite with authentication, and on PostgreSQL."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from mlflow import environment_variables
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow_servers import PASSWORD, USER, Server

from advseg.platform.tracking.ending import Ending, State
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.names import escaped, unescaped
from advseg.platform.tracking.patience import TrackingError, patiently
from advseg.platform.tracking.reporter import MlflowReporter
from advseg.platform.tracking.runs import KEY_TAG, STATE_TAG, close_run, ensure_run, experiment_id
from advseg.platform.tracking.spool import has_unsent
from advseg.trainers.reporter import Report

pytestmark = pytest.mark.xdist_group("own servers")


def report(step: int) -> Report:
    return Report(step=step, steps=8, metrics={"val/miou": 10.0 * step})


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_is_made_once_for_a_key_under_its_parent_and_reopened(server: Server) -> None:
    client = MlflowClient(server.uri)
    parent = ensure_run(client, RunIdentity(experiment="once", key="once"))
    trial = RunIdentity(experiment="once", key="once/0", parent="once", params={"method.lambda_adv": 0.5})
    run_id = ensure_run(client, trial)
    close_run(client, run_id, Ending(State.STOPPED))
    assert ensure_run(client, trial) == run_id
    runs = client.search_runs([experiment_id(client, "once")])
    assert {run.data.tags[KEY_TAG]: run.info.status for run in runs} == {"once": "RUNNING", "once/0": "RUNNING"}
    run = client.get_run(run_id)
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.params == {"method.lambda_adv": "0.5"}


def test_reports_arrive_once_a_step_with_pictures_and_the_end(server: Server, tmp_path: Path) -> None:
    identity = RunIdentity(experiment="reported", key="reported/0")
    client = MlflowClient(server.uri)
    for steps, state in (((2, 4), State.STOPPED), ((4, 8), State.COMPLETE)):
        reporter = MlflowReporter(server.uri, identity, tmp_path / "metrics.jsonl", ["panels", "log.txt"])
        for step in steps:
            panel = tmp_path / "panels" / f"step-{step}.png"
            panel.parent.mkdir(exist_ok=True)
            panel.write_text(f"a picture of step {step}")
            reporter.report(report(step))
        (tmp_path / "log.txt").write_text(f"it is {state}")
        reporter.close()
        close_run(client, reporter.run_id or "", Ending(state))
    run = client.get_run(reporter.run_id or "")
    assert (run.info.status, run.data.tags[STATE_TAG]) == ("FINISHED", "COMPLETE")
    history = client.get_metric_history(run.info.run_id, "val/miou")
    assert [(point.step, point.value) for point in history] == [(2, 20.0), (4, 40.0), (8, 80.0)]
    panels = [file.path for file in client.list_artifacts(run.info.run_id, "panels")]
    assert panels == [f"panels/step-{step}.png" for step in (2, 4, 8)]
    assert Path(client.download_artifacts(run.info.run_id, "log.txt", str(tmp_path))).read_text() == "it is COMPLETE"


def test_classes_of_any_name_are_tracked_but_for_those_that_are_refused(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    classes = ["driver's cab", "R&D", "road (wet)", "c++", "日本", "a//b", "../up", "tree/", "50% wet", "🚗", "n" * 300]
    metrics = {f"val/iou/{name}": float(number) for number, name in enumerate(classes)}
    reporter = MlflowReporter(server.uri, RunIdentity(experiment="named", key="named/0"), tmp_path / "metrics.jsonl")
    for step in (2, 4):
        reporter.report(Report(step=step, steps=8, metrics={**metrics, "val/miou": 10.0 * step}))
    reporter.close()
    client = MlflowClient(server.uri)
    tracked = client.get_run(reporter.run_id or "").data.metrics
    *rest, refused = metrics
    assert {unescaped(name): value for name, value in tracked.items() if not name.startswith("system/")} == {
        **{name: metrics[name] for name in rest},
        "val/miou": 40.0,
    }
    for name in (rest[0], "val/miou"):
        assert [point.step for point in client.get_metric_history(reporter.run_id or "", escaped(name))] == [2, 4]
    assert caplog.text.count(refused) == 1
    assert not has_unsent(tmp_path / "metrics.jsonl")


class TestAuthentication:
    def test_refuses_a_client_without_a_password(self, authenticating: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(MlflowException, match="not authenticated"):
            ensure_run(MlflowClient(authenticating.uri), RunIdentity(experiment="refused", key="refused"))

    def test_a_wrong_password_costs_a_training_nothing_but_its_tracking(
        self,
        authenticating: Server,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
        identity = RunIdentity(experiment="wrong", key="wrong/0")
        reporter = MlflowReporter(authenticating.uri, identity, tmp_path / "metrics.jsonl", farewell_s=0.1)
        reporter.report(report(2))
        wait_until(lambda: "MLflow did not take metrics of wrong/0, trying again" in caplog.text)
        reporter.close()
        assert has_unsent(tmp_path / "metrics.jsonl")

    def test_an_account_that_may_only_read_costs_a_training_nothing_but_its_tracking(
        self,
        authenticating: Server,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        for name, value in (("USERNAME", USER), ("PASSWORD", PASSWORD)):
            monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
        address, account = (
            f"{authenticating.uri}/api/2.0/mlflow/users/create",
            {"username": "reader", "password": PASSWORD},
        )
        requests.post(address, json=account, auth=(USER, PASSWORD), timeout=60).raise_for_status()
        identity = RunIdentity(experiment="read", key="read/0")
        run_id = ensure_run(MlflowClient(authenticating.uri), identity)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reader")
        reporter = MlflowReporter(
            authenticating.uri, identity, tmp_path / "metrics.jsonl", farewell_s=60, head_start_s=0, retry_s=0.01
        )
        reporter.report(report(2))
        wait_until(lambda: "MLflow did not take metrics of read/0, trying again: " in caplog.text)
        reporter.report(report(4))
        reporter.close()
        assert caplog.text.count("Permission denied") == 1
        assert has_unsent(tmp_path / "metrics.jsonl")
        with pytest.raises(TrackingError, match=r"MLflow refuses: .*Permission denied"):
            patiently(lambda: close_run(MlflowClient(authenticating.uri), run_id, Ending(State.COMPLETE)))
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
        assert MlflowClient(authenticating.uri).get_run(run_id).info.status == "RUNNING"

    def test_is_no_secret_in_the_servers_log(self, authenticating: Server) -> None:
        assert authenticating.status("/api/2.0/mlflow/experiments/search?max_results=1") == 401
        assert PASSWORD not in authenticating.log.read_text()

    def test_a_request_for_another_host_is_refused(self, authenticating: Server) -> None:
        assert authenticating.status("/api/2.0/mlflow/experiments/search?max_results=1", Host="evil.example.org") == 403


def test_mlflow_knows_all_that_the_guide_tells_it() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "teams.md").read_text()
    team = guide.partition("\n## An MLflow server\n")[2].partition("\n## ")[0]
    command = [sys.executable, "-m", "mlflow", "server", "--help"]
    help = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    options = set(re.findall(r"--[a-z-]+", help.partition("\nOptions:\n")[2]))
    told = set(re.findall(r"(?<= )--[a-z-]+", team))
    assert {"--app-name", "--allowed-hosts", "--backend-store-uri"} <= told <= options
    variables = set(re.findall(r"MLFLOW_[A-Z_]+", team))
    assert "MLFLOW_AUTH_CONFIG_PATH" in variables
    assert {name for name in variables if not hasattr(environment_variables, name)} == set()
