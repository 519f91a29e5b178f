from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from advseg.platform.tracking.artifacts import send_artifacts
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run

KEEP = ("panels", "log.txt", "trace.json.gz")


@pytest.fixture
def run_id(client: MlflowClient) -> str:
    return ensure_run(client, RunIdentity(experiment="probe", key="probe"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "training"
    (directory / "panels").mkdir(parents=True)
    (directory / "panels" / "step-1.png").write_text("a picture")
    (directory / "log.txt").write_text("a log")
    (directory / "heartbeat.json").write_text("{}")
    return directory


def paths(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    return [file.path for file in client.list_artifacts(run_id, folder)]


def test_files_and_folders_that_are_named_and_exist_are_sent(client, run_id, directory):
    send_artifacts(client, run_id, directory, KEEP)
    assert paths(client, run_id) == ["log.txt", "panels"]
    assert paths(client, run_id, "panels") == ["panels/step-1.png"]


def test_only_what_is_new_or_has_grown_is_sent_again(client, run_id, directory, monkeypatch):
    send_artifacts(client, run_id, directory, KEEP)
    sent = []
    log_artifact = client.log_artifact
    monkeypatch.setattr(client, "log_artifact", lambda *args: sent.append(Path(args[1]).name) or log_artifact(*args))
    (directory / "log.txt").write_text("a longer log")
    (directory / "panels" / "step-2.png").write_text("another picture")
    send_artifacts(client, run_id, directory, KEEP)
    assert sorted(sent) == ["log.txt", "step-2.png"]
    assert Path(client.download_artifacts(run_id, "log.txt")).read_text() == "a longer log"


def test_a_training_that_has_made_nothing_yet_sends_nothing(client, run_id, tmp_path):
    send_artifacts(client, run_id, tmp_path / "nowhere", KEEP)
    assert paths(client, run_id) == []
