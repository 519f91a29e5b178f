"""Models on the Hugging Face Hub: a round trip by the program, as its users call it, and what is refused."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hub_stand_in import Repository

from advseg.models.bundle import CARD, SEGMENTER
from advseg.models.manifest import MANIFEST
from advseg.platform.registry.hub import HubAddress, hub_address, pull_from_hub, push
from advseg.trainers.errors import UserError

from .conftest import TOKEN

# huggingface_hub's upload of large files, of its own HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")

ADDRESS = HubAddress(repository="me/things")


def advseg(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "advseg.jobs.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_what_is_pushed_is_pulled_to_the_bit(hub: Any, model: Path, tmp_path: Path) -> None:
    pushed = advseg("models", "push", model, "hf://me/things", "--license", "cc-by-4.0")
    assert pushed.returncode == 0, pushed.stderr
    repository = hub.repositories["me/things"]
    (commit,) = repository.commits
    assert pushed.stdout == f"{model} pushed to hf://me/things@{commit}\n"
    assert repository.private
    assert repository.newest.keys() == {CARD, SEGMENTER, MANIFEST, "README.md"}
    assert yaml.safe_load(repository.newest["README.md"].decode().split("---\n")[1])["license"] == "cc-by-4.0"

    repository.commit({CARD: b"another"})
    pulled = advseg("models", "pull", f"hf://me/things@{commit}", "--to", tmp_path / "to")

    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout == f"hf://me/things@{commit} pulled to {tmp_path / 'to'}\n"
    ours, theirs = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (model, tmp_path / "to"))
    assert ours == theirs
    assert TOKEN not in pushed.stdout + pushed.stderr + pulled.stdout + pulled.stderr


def test_a_second_push_is_one_more_commit_and_leaves_other_files(hub: Any, model: Path) -> None:
    push(model, ADDRESS, "unknown", None)
    hub.repositories["me/things"].commit({"notes.txt": b"mine"})
    push(model, ADDRESS, "unknown", None)
    assert len(hub.repositories["me/things"].commits) == 3
    assert hub.repositories["me/things"].newest["notes.txt"] == b"mine"


def test_what_stands_beside_a_model_is_not_pushed(hub: Any, model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    (folder / "secret.txt").write_text("mine")
    push(folder, ADDRESS, "unknown", None)
    assert "secret.txt" not in hub.repositories["me/things"].newest


class TestARepositoryOfAStranger:
    @pytest.fixture
    def files(self, hub: Any, model: Path) -> dict[str, bytes]:
        """Of the model; a test puts others beside or in their place."""
        return {path.name: path.read_bytes() for path in model.iterdir()}

    def offer(self, hub: Any, files: dict[str, bytes]) -> None:
        hub.repositories["me/things"] = Repository(private=False)
        hub.repositories["me/things"].commit(files)

    @pytest.mark.parametrize("damaged", [CARD, SEGMENTER, MANIFEST])
    def test_is_refused_where_a_file_differs_or_lacks(
        self, hub: Any, files: dict[str, bytes], tmp_path: Path, damaged: str
    ) -> None:
        self.offer(hub, {**files, damaged: files[damaged] + b" x"})
        with pytest.raises(UserError, match="cannot be pulled: "):
            pull_from_hub(ADDRESS, tmp_path / "to")
        self.offer(hub, {name: content for name, content in files.items() if name != damaged})
        with pytest.raises(UserError, match="there is no such repository, revision or file"):
            pull_from_hub(ADDRESS, tmp_path / "to")
        assert not (tmp_path / "to").exists()

    def test_goes_to_no_folder_that_is_there(self, hub: Any, files: dict[str, bytes], tmp_path: Path) -> None:
        self.offer(hub, files)
        (tmp_path / "to").mkdir()
        with pytest.raises(UserError, match="to exists already: remove it or name another folder"):
            pull_from_hub(ADDRESS, tmp_path / "to")


@pytest.mark.parametrize("revision", [None, "v9"])
def test_what_is_not_there_is_told_in_a_line(hub: Any, model: Path, tmp_path: Path, revision: str | None) -> None:
    if revision:
        push(model, ADDRESS, "unknown", None)
    with pytest.raises(UserError, match="cannot be pulled: there is no such repository, revision or file, or HF_TOKEN"):
        pull_from_hub(HubAddress(repository="me/things", revision=revision), tmp_path / "to")


def test_a_wrong_token_is_told_without_it(hub: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_another0canary")
    done = advseg("models", "push", model, "hf://me/things")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: the model cannot be pushed to hf://me/things: the Hub refuses (401): set HF_TOKEN to a token of an "
        "account that may do so\n"
    )
    assert hub.repositories == {}


def test_a_hub_that_does_not_answer_is_told_without_its_address(
    hub: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.server_close()
    with pytest.raises(UserError, match=r"cannot be pushed to hf://me/things: the Hub does not answer \(") as caught:
        push(model, ADDRESS, "unknown", None)
    assert str(hub.server_port) not in str(caught.value)


def test_an_upload_that_fails_leaves_no_commit(hub: Any, model: Path) -> None:
    hub.full = True
    with pytest.raises(UserError, match=r"cannot be pushed to hf://me/things: the Hub answers 507: try again later"):
        push(model, ADDRESS, "unknown", None)
    assert hub.repositories["me/things"].commits == {}


def test_a_damaged_model_is_not_pushed(hub: Any, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match=r"has no MANIFEST\.json"):
        push(tmp_path / "model", ADDRESS, "unknown", None)
    assert hub.asked == []


def test_an_address_says_owner_name_and_perhaps_a_revision() -> None:
    assert hub_address("hf://me/things") == ADDRESS
    assert hub_address("hf://me/things@refs/pr/1") == HubAddress(repository="me/things", revision="refs/pr/1")


@pytest.mark.parametrize(
    "text", ["hf://things", "hf://a/b/c", "hf://a/b@", "hf:///b", "hf://a b/c", "hf://a/b?x=1", "x"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"must be hf://OWNER/NAME or hf://OWNER/NAME@REVISION, as in hf://me/shapes"):
        hub_address(text)


def test_a_revision_is_not_pushed_to(model: Path) -> None:
    with pytest.raises(UserError, match="names a revision, but what is pushed becomes the newest: leave it out"):
        push(model, hub_address("hf://me/things@v1"), "unknown", None)
