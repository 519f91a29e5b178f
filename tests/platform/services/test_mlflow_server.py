"""The local MLflow server as other users of the machine, its owner's clients and its owner's browser find it."""

import base64
import json
import os
import sqlite3
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow.tracking import MlflowClient

from advseg.models import load
from advseg.models.architectures import IMAGENET, CompactSettings, build_segmenter
from advseg.models.bundle import save
from advseg.models.card import Card
from advseg.models.local_server import USER
from advseg.models.tracking_server import RegistryError
from advseg.platform.services.belonging import members
from advseg.platform.services.connection import services_of
from advseg.platform.services.launching import start, stop, wait_until_ready
from advseg.platform.services.mlflow_accounts import page_path, password_path
from advseg.platform.services.ports import choose_port
from advseg.platform.services.records import ServiceRecord, write_records
from advseg.platform.services.servers import DATABASE, MLFLOW, RAY, folder, log_path

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SECRET = "what only the owner may read"


@dataclass(frozen=True, kw_only=True)
class Local:
    home: Path
    record: ServiceRecord

    @property
    def folder(self) -> Path:
        return folder(self.home, MLFLOW)

    @property
    def password(self) -> str:
        return password_path(self.folder).read_text()

    def ask(
        self, path: str, body: Any = None, *, password: str | None = None, method: str | None = None
    ) -> tuple[int, str]:
        """Status and body of an answer, as curl would have it."""
        headers = {"Content-Type": "application/json"}
        if password is not None:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.record.url + path, data=data, headers=headers, method=method)
        try:
            with OPENER.open(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()


def launched(home: Path, *, accounts: bool = True) -> Local:
    folder(home, MLFLOW).mkdir(exist_ok=True)
    port = choose_port(option="", asked=None)
    local = Local(home=home, record=start(home, MLFLOW, port=port, cpus=None, avoid=(), accounts=accounts))
    try:
        wait_until_ready(home, {MLFLOW: local.record})
    except BaseException:
        stop(home, {MLFLOW: local.record})
        raise
    return local


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[Local]:
    """A server over a database that a server without accounts had made."""
    home = tmp_path_factory.mktemp("home")
    folder(home, MLFLOW).mkdir()
    (folder(home, MLFLOW) / DATABASE).write_bytes(migrated.read_bytes())
    server = launched(home)
    try:
        yield server
    finally:
        stop(home, {MLFLOW: server.record})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/version"),
        ("GET", "/api/2.0/mlflow/experiments/search?max_results=1"),
        ("POST", "/api/2.0/mlflow/experiments/create"),
        ("POST", "/graphql"),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts?path="),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/planted"),
        ("GET", "/ajax-api/3.0/mlflow/assistant/providers"),
        ("GET", "/get-artifact?path=x&run_uuid=0"),
    ],
)
@pytest.mark.parametrize("password", [None, "", "wrong"])
def test_a_stranger_is_asked_for_an_account(local: Local, method: str, path: str, password: str | None) -> None:
    status, _ = local.ask(path, {} if method != "GET" else None, password=password, method=method)
    assert status in (401, 403)


def test_an_account_cannot_make_it_serve_files_from_elsewhere(local: Local, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "link").symlink_to(tmp_path / "token")
    for number, location in enumerate(
        [
            f"file://{tmp_path}/planted",
            str(tmp_path / "planted"),
            f"file://localhost{tmp_path}/planted",
            f"mlflow-artifacts:/../../../../../../../../../..{tmp_path}/planted",
            "s3://somebody/else",
        ]
    ):
        asked = {"name": f"planted-{number}", "artifact_location": location}
        status, body = local.ask("/api/2.0/mlflow/experiments/create", asked, password=local.password)
        if status != 200:
            continue
        made = {"experiment_id": json.loads(body)["experiment_id"]}
        status, body = local.ask("/api/2.0/mlflow/runs/create", made, password=local.password)
        run = json.loads(body)["run"]["info"]["run_id"]
        for path in (
            f"/get-artifact?path=link&run_uuid={run}",
            f"/api/2.0/mlflow/artifacts/list?run_id={run}",
            f"/ajax-api/2.0/mlflow/get-artifact?path=link&run_uuid={run}",
        ):
            status, body = local.ask(path, password=local.password)
            assert SECRET not in body, (location, path)
            assert status >= 400 or "link" not in body, (location, path, body)


def test_the_folder_of_artifacts_serves_what_clients_put_there(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "of another server")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    services = services_of(local.home, {MLFLOW: local.record, RAY: local.record})
    for name in services.environment():
        monkeypatch.setenv(name, "as it was")
    services.enter()
    client = MlflowClient(local.record.url)
    run = client.create_run(client.create_experiment("kept"))
    client.log_text(run.info.run_id, "kept", "notes/text.json")
    client.log_metric(run.info.run_id, "miou", 50.0)
    assert Path(client.download_artifacts(run.info.run_id, "notes/text.json", str(tmp_path))).read_text() == "kept"
    assert list((local.folder / "artifacts").rglob("text.json"))


def test_a_model_is_loaded_from_it_by_its_name_alone(
    local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what is noted in the home folder, as nothing of MLflow reads it."""
    settings = CompactSettings(width=8)
    card = Card(
        segmenter=settings,
        discriminator=None,
        classes=("thing",),
        palette=((0, 0, 0),),
        ignore_index=255,
        normalisation=IMAGENET,
    )
    save(tmp_path / "model", card, build_segmenter(settings, 1).state_dict(), None)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", USER)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", local.password)
        client = MlflowClient(local.record.url)
        run = client.create_run(client.create_experiment("loaded"))
        client.log_artifacts(run.info.run_id, str(tmp_path / "model"), "model")
        client.create_registered_model("things")
        client.create_model_version("things", f"{run.info.artifact_uri}/model", run_id=run.info.run_id)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ADVSEG_HOME", str(local.home))
    write_records(local.home, {MLFLOW: local.record})
    assert load("things@1").card == card
    write_records(local.home, {MLFLOW: replace(local.record, created=local.record.created - 60)})
    with pytest.raises(RegistryError, match="no MLflow server runs here"):
        load("things@1")


def test_the_password_is_in_files_of_its_owner_alone(local: Local) -> None:
    secret = local.password
    assert len(secret) == 64
    places = [path for path in local.home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert sorted(places) == sorted([password_path(local.folder), page_path(local.folder)])
    assert [stat.S_IMODE(place.stat().st_mode) for place in places] == [0o600, 0o600]
    lines = [word for process in psutil.process_iter(["cmdline"]) for word in process.info["cmdline"] or []]
    assert str(local.folder) in lines
    assert secret not in " ".join(lines)
    assert secret not in log_path(local.home, MLFLOW).read_text()


def test_all_its_processes_are_found(local: Local) -> None:
    found = members(local.home, MLFLOW, local.record)
    assert local.record.pid in {process.pid for process in found}
    assert len(found) >= 2  # the program and the server that it began
    assert os.getpid() not in {process.pid for process in found}


def test_an_open_one_asks_nobody(tmp_path: Path) -> None:
    server = launched(tmp_path, accounts=False)
    try:
        assert server.ask("/api/2.0/mlflow/experiments/search?max_results=1")[0] == 200
        assert not password_path(server.folder).exists()
    finally:
        stop(tmp_path, {MLFLOW: server.record})
    with closing(sqlite3.connect(server.folder / DATABASE)) as connection:
        assert connection.execute("SELECT name FROM experiments").fetchall() == [("Default",)]
    assert members(tmp_path, MLFLOW, server.record) == set()
    assert not server.record.temp_dir.exists()
