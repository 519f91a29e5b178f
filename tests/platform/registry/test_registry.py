import json
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient

from advseg.models import load
from advseg.models.architectures import IMAGENET, CompactSettings, build_segmenter
from advseg.models.bundle import Card, save
from advseg.platform.registry.registry import CHAMPION, log_model, pull, register
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run
from advseg.trainers.errors import UserError


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory, which no test changes."""
    path = tmp_path_factory.mktemp("models") / "model"
    settings = CompactSettings(width=8)
    card = Card(
        segmenter=settings,
        discriminator=None,
        classes=("background", "thing"),
        palette=((0, 0, 0), (128, 0, 0)),
        ignore_index=255,
        normalisation=IMAGENET,
    )
    torch.manual_seed(0)
    save(path, card, build_segmenter(settings, 2).state_dict(), None)
    return path


def run_of(client: MlflowClient, key: str) -> str:
    return ensure_run(client, RunIdentity(experiment="probe", key=key))


def registered(client: MlflowClient, model: Path, key: str) -> str:
    return register(client, model, "things", run_of(client, key), key)


class TestRegistering:
    def test_makes_a_version_and_the_champion(self, client: MlflowClient, model: Path) -> None:
        assert registered(client, model, "probe/0") == "1"
        version = client.get_model_version_by_alias("things", CHAMPION)
        assert (str(version.version), version.run_id) == ("1", run_of(client, "probe/0"))

    def test_twice_makes_one_version(self, client: MlflowClient, model: Path) -> None:
        assert [registered(client, model, "probe/0") for _ in range(2)] == ["1", "1"]
        assert len(client.search_model_versions("name = 'things'")) == 1

    def test_of_another_trial_moves_the_champion(self, client: MlflowClient, model: Path) -> None:
        assert [registered(client, model, f"probe/{trial}") for trial in (0, 1)] == ["1", "2"]
        assert str(client.get_model_version_by_alias("things", CHAMPION).version) == "2"
        registered(client, model, "probe/0")
        assert str(client.get_model_version_by_alias("things", CHAMPION).version) == "1"

    def test_refuses_a_damaged_model(self, client: MlflowClient, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="MANIFEST"):
            registered(client, tmp_path, "probe/0")
        assert client.search_registered_models() == []


class TestPulling:
    @pytest.mark.parametrize(
        ("reference", "what"),
        [
            ("things@champion", "things version 1"),
            ("things@1", "things version 1"),
            ("probe/0", "the model of probe/0"),
        ],
    )
    def test_gives_the_model_by_alias_version_or_trial(
        self, client: MlflowClient, model: Path, tmp_path: Path, reference: str, what: str
    ) -> None:
        registered(client, model, "probe/0")
        destination = tmp_path / "new" / "folder"
        assert pull(client, reference, destination) == what
        assert load(destination).card == load(model).card
        assert [path.name for path in destination.parent.iterdir()] == ["folder"]

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            ("things@best", r"no model things@best; registered models: things \(champion\)"),
            ("things@7", "no model things@7"),
            ("other@champion", "no model other@champion"),
            ("probe/9", "there is no run probe/9"),
            ("probe/1", "run probe/1 has no model"),
            ("things", "must be <name>@<alias>, <name>@<version> or <sweep>/<trial>, as in things@champion"),
            ("", "must be <name>@<alias>"),
            ("things@", "must be <name>@<alias>"),
            ("@champion", "must be <name>@<alias>"),
            ("/", "must be <name>@<alias>"),
            ("a'b/0", "must be <name>@<alias>"),
            ("a/b/c", "must be <name>@<alias>"),
        ],
    )
    def test_of_a_reference_that_leads_nowhere_is_refused(
        self, client: MlflowClient, model: Path, tmp_path: Path, reference: str, message: str
    ) -> None:
        registered(client, model, "probe/0")
        run_of(client, "probe/1")
        with pytest.raises(UserError, match=message):
            pull(client, reference, tmp_path / "to")
        assert not [path for path in tmp_path.iterdir() if path.name.startswith((".to", "to"))]

    def test_names_no_models_where_there_are_none(self, client: MlflowClient, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="registered models: none yet"):
            pull(client, "things@champion", tmp_path / "to")

    def test_to_what_exists_is_refused(self, client: MlflowClient, model: Path, tmp_path: Path) -> None:
        registered(client, model, "probe/0")
        (tmp_path / "to").mkdir()
        (tmp_path / "to" / "mine.txt").write_text("mine")
        with pytest.raises(UserError, match="exists already"):
            pull(client, "things@champion", tmp_path / "to")
        assert (tmp_path / "to" / "mine.txt").read_text() == "mine"

    def test_into_a_file_is_refused(self, client: MlflowClient, model: Path, tmp_path: Path) -> None:
        registered(client, model, "probe/0")
        (tmp_path / "file").write_text("mine")
        with pytest.raises(UserError, match="cannot be pulled"):
            pull(client, "things@champion", tmp_path / "file" / "to")

    @pytest.mark.parametrize("damage", ["changed", "lost", "all lost"])
    def test_of_a_damaged_artifact_is_refused(
        self, client: MlflowClient, model: Path, tmp_path: Path, damage: str
    ) -> None:
        registered(client, model, "probe/0")
        (card,) = tmp_path.rglob("model.json")
        match damage:
            case "changed":
                card.write_text(json.dumps({**json.loads(card.read_text()), "classes": ["a", "b"]}))
            case "lost":
                card.unlink()
            case _:
                for file in card.parent.iterdir():
                    file.unlink()
                card.parent.rmdir()
        with pytest.raises(UserError, match="things@champion cannot be pulled: "):
            pull(client, "things@champion", tmp_path / "to")
        assert not (tmp_path / "to").exists()
        assert not (tmp_path / ".to.partial").exists()

    def test_of_a_run_takes_what_was_logged_last(self, client: MlflowClient, model: Path, tmp_path: Path) -> None:
        for _ in range(2):
            log_model(client, model, run_of(client, "probe/baseline"))
        assert pull(client, "probe/baseline", tmp_path / "to") == "the model of probe/baseline"
        load(tmp_path / "to")
