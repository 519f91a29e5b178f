"""What a machine says of itself."""

import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE, UNAUTHENTICATED
from mlflow.tracking import MlflowClient

from advseg.platform.base.code_digest import code_digest
from advseg.platform.cluster import looking
from advseg.platform.cluster.looking import PACKAGES, Copy, Sight, look, read_copy
from advseg.platform.spec.spec import spec_from
from advseg.platform.storage.local_store import LocalStore
from advseg.trainers.data.opening import open_dataset

NONCE = "nonce"


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage that holds the driver's nonce."""
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / NONCE).touch()
    return folder


def seen(storage: Path, tracking_uri: str | None = None) -> Sight:
    return look(str(storage), NONCE, tracking_uri)


def test_a_machine_that_has_all_lacks_nothing_and_leaves_nothing_behind(storage: Path) -> None:
    sight = seen(storage)
    assert not sight.lacks
    assert sight.code == code_digest()
    assert sorted(sight.packages) == sorted(PACKAGES)
    assert all(re.fullmatch(r"[\d.]+", version or "") for version in sight.packages.values())
    assert list(storage.iterdir()) == [storage / NONCE]


@pytest.mark.parametrize("there", ["nothing", "another folder"])
def test_storage_is_the_drivers_only_if_it_holds_what_the_driver_wrote(storage: Path, there: str) -> None:
    shutil.rmtree(storage)
    if there == "another folder":
        storage.mkdir()
    assert seen(storage).lacks == [f"storage {storage} is not what the driver sees there: all nodes need the same"]


def test_storage_must_take_files(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(store: LocalStore, key: str, content: bytes) -> None:
        raise OSError(30, "Read-only file system", key)

    monkeypatch.setattr(LocalStore, "write", refuse)
    assert seen(storage).lacks == [f"storage {storage} cannot be used (Read-only file system)"]


def test_storage_that_is_away_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    (lack,) = look("s3://bucket", NONCE, None).lacks
    assert "s3://bucket" in lack
    assert "does not answer" in lack


def test_a_disk_must_have_room(storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(looking.shutil, "disk_usage", lambda _: SimpleNamespace(free=300 * 2**20))
    assert seen(storage).lacks == [f"the disk of {tmp_path} has 300 MiB left, but needs 1024: make room"]


def test_a_package_that_is_not_there_has_no_version(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "PACKAGES", ("torch", "no-such-package"))
    assert seen(storage).packages["no-such-package"] is None


class TestMlflow:
    URI = "http://mlflow.example.org"

    @pytest.fixture
    def answer(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception | None], list[str]]:
        """How often a client tries, whatever the server answers it."""
        tries: list[str] = []

        def set_answer(error: Exception | None) -> list[str]:
            def search(client: MlflowClient, **_: Any) -> list[Any]:
                assert client.tracking_uri == self.URI
                tries.append(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
                if error:
                    raise error
                return []

            monkeypatch.setattr(MlflowClient, "search_experiments", search)
            return tries

        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "cluster")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
        return set_answer

    def test_answers(self, storage: Path, answer: Callable[[Exception | None], list[str]]) -> None:
        tries = answer(None)
        assert not seen(storage, self.URI).lacks
        # It is not asked for long, and what comes after is as patient as before.
        assert tries == ["1"]
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "3"
        assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ

    def test_that_is_away_is_a_lack(self, storage: Path, answer: Callable[[Exception | None], list[str]]) -> None:
        answer(MlflowException("connection refused", TEMPORARILY_UNAVAILABLE))
        assert seen(storage, self.URI).lacks == [f"MLflow does not answer at {self.URI} (connection refused)"]

    def test_that_refuses_the_account_is_a_lack(
        self, storage: Path, answer: Callable[[Exception | None], list[str]]
    ) -> None:
        answer(MlflowException("who are you?", UNAUTHENTICATED))
        assert seen(storage, self.URI).lacks == [
            f"MLflow refuses at {self.URI}: it does not know cluster by this password: MLFLOW_TRACKING_USERNAME and "
            f"MLFLOW_TRACKING_PASSWORD on {socket.gethostname()} must be those of an account"
        ]


class TestDataset:
    @pytest.fixture
    def opened(self, make_spec: Callable[..., Any], voc_tree: Path) -> dict[str, Any]:
        """The document of a spec of a dataset that lies here."""
        spec = make_spec(
            f"dataset.root={voc_tree}", "dataset.labelled=train", "dataset.unlabelled=train_aug", "dataset.classes=[]"
        )
        return spec.model_dump(mode="json")

    def test_is_named_by_its_digest(self, opened: dict[str, Any]) -> None:
        assert read_copy(opened) == Copy(digest=open_dataset(spec_from(opened).dataset).digest)

    def test_that_is_not_there_is_told_as_by_who_submits(self, opened: dict[str, Any], tmp_path: Path) -> None:
        lost, weights = tmp_path / "lost", tmp_path / "weights.pth"
        opened["dataset"]["root"], opened["model"]["weights"] = str(lost), str(weights)
        copy = read_copy(opened)
        assert copy.digest is None
        assert copy.lack.startswith(f"dataset.root: folder {lost} does not exist: put ")
        assert copy.lack.endswith(
            f"; model.weights: file {weights} does not exist: put the start weights there or name theirs"
        )

    def test_that_is_damaged_is_told_in_one_line(self, opened: dict[str, Any], voc_tree: Path) -> None:
        for image in (voc_tree / "JPEGImages").iterdir():
            image.write_bytes(b"no image")
        copy = read_copy(opened)
        assert copy.digest is None
        assert "problems in dataset" in copy.lack
        assert "\n" not in copy.lack

    def test_that_is_a_pack_in_a_bucket_out_of_reach_is_told_in_one_line(
        self,
        opened: dict[str, Any],
        new_bucket: Callable[[str], str],
        moto_server: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        opened["dataset"]["pack"] = address = f"{new_bucket(moto_server)}/pack"
        assert read_copy(opened).lack.startswith(f"pack {address} does not exist, or is not whole: write it by")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert f"{address} cannot be used: there are no credentials: set AWS_A" in read_copy(opened).lack
