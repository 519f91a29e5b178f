"""`advseg sync`, as it is typed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from advseg.jobs.cli.main import app
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.storage.opening import open_store
from advseg.platform.sweep import sync as syncing
from advseg.platform.tracking import clients
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.noted import note
from advseg.platform.tracking.reporter import MlflowReporter
from advseg.platform.tracking.runs import ensure_run, runs_by_key
from advseg.trainers.errors import UserError
from advseg.trainers.reporter import Report


@pytest.fixture(autouse=True)
def no_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs on this machine, and nobody names a server."""
    monkeypatch.setenv("ADVSEG_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(syncing, "_at_work", lambda *_: set())


@pytest.fixture
def left(client: MlflowClient, tmp_path: Path) -> Callable[[str], None]:
    """Leave a training whose process was killed, with a report that was not sent."""

    def leave(name: str) -> None:
        identity = RunIdentity(experiment=name, key=f"{name}/0", params={"trainer.steps": 8})
        spool = tmp_path / "runs" / identity.key / "metrics.jsonl"
        reporter = MlflowReporter(client.tracking_uri, identity, spool, head_start_s=60)
        reporter.report(Report(step=4, steps=8, metrics={"val/miou": 40.0}))
        reporter.leave()
        note(LocalStore(spool.parent), client.tracking_uri, identity, ensure_run(client, identity))

    return leave


def sync(tmp_path: Path) -> str:
    return CliRunner().invoke(app, ["sync", "--storage", str(tmp_path / "runs")], catch_exceptions=False).stdout


def status_of(client: MlflowClient, name: str) -> str:
    return runs_by_key(client, name)[f"{name}/0"].info.status


def test_reaches_the_server_of_the_runs_though_none_runs_here(
    client: MlflowClient, left: Callable[[str], None], tmp_path: Path
) -> None:
    left("probe")
    assert sync(tmp_path) == "training probe/0: what it left is in its run\n"
    assert status_of(client, "probe") == "KILLED"


def test_does_what_it_can_and_names_the_rest_at_the_end(
    client: MlflowClient, left: Callable[[str], None], tmp_path: Path
) -> None:
    for name in ("one", "probe", "two"):
        left(name)
    client.delete_experiment(runs_by_key(client, "one")["one/0"].info.experiment_id)
    note(
        LocalStore(tmp_path / "runs" / "two" / "0"),
        "http://127.0.0.1:9",
        RunIdentity(experiment="two", key="two/0"),
        None,
    )
    with pytest.raises(UserError) as told:
        sync(tmp_path)
    head, *lines = str(told.value).splitlines()
    assert head == "2 problems in what was to be synced:"
    assert [line.split(": ")[:2] for line in lines] == [
        ["  training two/0", "the MLflow server at http://127.0.0.1:9 does not answer"],
        [
            "  training one/0",
            f"the experiment one in MLflow at {client.tracking_uri} is deleted, and its name still taken",
        ],
    ]
    assert status_of(client, "probe") == "KILLED"


def test_shows_the_users_account_to_no_server_that_only_a_file_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = RunIdentity(experiment="one", key="one/single")
    note(LocalStore(tmp_path / "runs" / "one" / "single"), "http://127.0.0.1:9", identity, None)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    monkeypatch.setattr(clients, "answers", lambda client: pytest.fail("it was asked"))
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:9, which is not shown the account of another"):
        sync(tmp_path)


def test_brings_what_is_in_a_bucket_also_without_a_ledger(
    client: MlflowClient, new_bucket: Callable[[str], str], moto_server: str
) -> None:
    bucket = new_bucket(moto_server)
    identity = RunIdentity(experiment="one", key="one/single", params={"trainer.steps": 8})
    note(open_store(f"{bucket}/one/single"), client.tracking_uri, identity, ensure_run(client, identity))
    arguments = ["sync", "--storage", bucket]
    out = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert out.splitlines() == [
        "left alone: sweeps, whose ledger is elsewhere: name it by --ledger or ADVSEG_LEDGER",
        "training one/single: what it left is in its run",
    ]
    with pytest.raises(UserError, match=r"^a storage in S3 has its ledger elsewhere: name that by --ledger"):
        CliRunner().invoke(app, ["sweep", "list", *arguments[1:]], catch_exceptions=False)


@pytest.mark.parametrize(
    ("code", "reason"), [("PERMISSION_DENIED", "may not do that"), ("UNAUTHENTICATED", "not know")]
)
@pytest.mark.parametrize("command", ["sync", "models list", "models pull a@b --to c", "compare probe"])
def test_an_account_that_the_server_refuses_is_told_in_a_line(
    advseg: Callable[..., tuple[int, str, str]],
    tracking: MlflowClient,
    left: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    code: str,
    reason: str,
    command: str,
) -> None:
    left("probe")

    def refuse(*_: Any, **__: Any) -> None:
        raise MlflowException("Permission denied", error_code=ErrorCode.Value(code))

    for name in ("search_registered_models", "get_model_version_by_alias", "search_experiments", "search_runs"):
        monkeypatch.setattr(MlflowClient, name, refuse)
    arguments = [*command.split(), *(["--storage", str(tmp_path / "runs")] if command == "sync" else [])]
    status, out, err = advseg(*arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert reason in err
