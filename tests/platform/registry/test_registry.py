import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from advseg.models import load
from advseg.models.bundle import CARD, SEGMENTER
from advseg.models.manifest import write_directory
from advseg.platform.registry import registry
from advseg.platform.registry.registering import Registered, log_model
from advseg.platform.registry.registry import pull, pull_card
from advseg.platform.registry.versions import registered_keys
from advseg.platform.tracking.runs import KEY_TAG
from advseg.trainers.errors import UserError

from .conftest import gate_of

Register = Callable[..., Registered]


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
        self, client: MlflowClient, model: Path, tmp_path: Path, reference: str, what: str, registered: Register
    ) -> None:
        registered(model, "probe/0", gate_of(1))
        destination = tmp_path / "new" / "folder"
        assert pull(client, reference, destination) == (what, destination)
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
        self,
        client: MlflowClient,
        model: Path,
        tmp_path: Path,
        reference: str,
        message: str,
        registered: Register,
        run_of: Callable[[str], str],
    ) -> None:
        registered(model, "probe/0", gate_of(1))
        run_of("probe/1")
        with pytest.raises(UserError, match=message):
            pull(client, reference, tmp_path / "to")
        assert not [path for path in tmp_path.iterdir() if path.name.startswith((".to", "to"))]

    def test_names_no_models_where_there_are_none(self, client: MlflowClient, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="registered models: none yet"):
            pull(client, "things@champion", tmp_path / "to")

    def test_to_what_exists_is_refused(
        self, client: MlflowClient, model: Path, tmp_path: Path, registered: Register
    ) -> None:
        registered(model, "probe/0", gate_of(1))
        (tmp_path / "to").mkdir()
        (tmp_path / "to" / "mine.txt").write_text("mine")
        with pytest.raises(UserError, match="exists already"):
            pull(client, "things@champion", tmp_path / "to")
        assert (tmp_path / "to" / "mine.txt").read_text() == "mine"

    def test_into_a_file_is_refused(
        self, client: MlflowClient, model: Path, tmp_path: Path, registered: Register
    ) -> None:
        registered(model, "probe/0", gate_of(1))
        (tmp_path / "file").write_text("mine")
        with pytest.raises(UserError, match="cannot be pulled"):
            pull(client, "things@champion", tmp_path / "file" / "to")

    def test_of_a_champion_that_there_is_not_says_why(
        self, client: MlflowClient, model: Path, tmp_path: Path, registered: Register
    ) -> None:
        registered(model, "probe/0", None)
        why = "candidate is version 1: it is the best of its sweep, and was not confirmed on fresh seeds"
        with pytest.raises(UserError, match=f"^things has no champion: {why}; `advseg models list` lists"):
            pull(client, "things@champion", tmp_path / "to")

    @pytest.mark.parametrize("damage", ["changed", "lost", "all lost"])
    def test_of_a_damaged_artifact_is_refused(
        self, client: MlflowClient, model: Path, tmp_path: Path, damage: str, registered: Register
    ) -> None:
        registered(model, "probe/0", gate_of(1))
        (card,) = tmp_path.rglob("model.json")
        match damage:
            case "changed":
                card.write_text(json.dumps({**json.loads(card.read_text()), "classes": ["a", "b"]}))
            case "lost":
                card.unlink()
            case _:
                shutil.rmtree(card.parent)
        with pytest.raises(UserError, match="things@champion cannot be pulled: "):
            pull(client, "things@champion", tmp_path / "to")
        assert not [path for path in tmp_path.iterdir() if path.name.startswith((".to", "to"))]

    def test_of_a_run_takes_what_was_logged_last(
        self, client: MlflowClient, model: Path, tmp_path: Path, run_of: Callable[[str], str]
    ) -> None:
        for _ in range(2):
            log_model(client, model, run_of("probe/baseline"))
        assert pull(client, "probe/baseline", tmp_path / "to") == ("the model of probe/baseline", tmp_path / "to")
        load(tmp_path / "to")

    @pytest.mark.parametrize("card", ["[", "[]", "{}", "[" * 100_000, '{"segmenter": {"architecture": "compact"}}'])
    def test_of_what_has_no_proper_card_is_refused(
        self, client: MlflowClient, tmp_path: Path, run_of: Callable[[str], str], card: str
    ) -> None:
        write_directory(tmp_path / "odd", lambda path: (path / CARD).write_text(card) and None)
        client.log_artifacts(run_of("probe/0"), str(tmp_path / "odd"), "model")
        for refused in (pull, lambda *_: pull_card(client, "probe/0")):
            with pytest.raises(UserError, match=r"probe/0 cannot be (pulled|read): .*model\.json is no card") as caught:
                refused(client, "probe/0", tmp_path / "to")
            assert "\n" not in str(caught.value)
        assert not (tmp_path / "to").exists()

    @pytest.mark.parametrize("source", ["http://evil.example/model", "runs:/abc/model", "ftp://evil.example/model"])
    def test_from_an_address_that_no_registry_of_ours_names_is_refused(
        self, client: MlflowClient, tmp_path: Path, run_of: Callable[[str], str], source: str
    ) -> None:
        client.create_registered_model("things")
        client.create_model_version("things", source, run_id=run_of("probe/0"))
        for refused in (pull, lambda *_: pull_card(client, "things@1")):
            with pytest.raises(UserError, match=f"things version 1 is said to lie at '{source}', but models come from"):
                refused(client, "things@1", tmp_path / "to")

    def test_of_files_that_a_server_names_is_refused(
        self, client: MlflowClient, model: Path, tmp_path: Path, registered: Register, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registered(model, "probe/0", gate_of(1))
        monkeypatch.setattr(MlflowClient, "tracking_uri", "http://mlflow.example")
        for reference in ("things@champion", "probe/0"):
            with pytest.raises(UserError, match="a file of this machine, which a server has no business to name"):
                pull(client, reference, tmp_path / "to")

    def test_from_s3_without_credentials_names_the_variables(
        self,
        client: MlflowClient,
        tmp_path: Path,
        run_of: Callable[[str], str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        client.create_registered_model("things")
        client.create_model_version("things", "s3://bucket/model", run_id=run_of("probe/0"))
        with pytest.raises(UserError, match=r"things@1 cannot be pulled: .*credentials.* set AWS_ACCESS_KEY_ID"):
            pull(client, "things@1", tmp_path / "to")
        experiment = client.create_experiment("elsewhere", artifact_location="s3://bucket/runs")
        client.create_run(experiment, tags={KEY_TAG: "elsewhere/0"})
        with pytest.raises(UserError, match=r"elsewhere/0 cannot be found: .*credentials.* set AWS_ACCESS_KEY_ID"):
            pull(client, "elsewhere/0", tmp_path / "to")

    def test_of_a_server_that_is_away_says_nothing_of_the_model(
        self, client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What talks to servers tells so, in its own words."""

        def away(*_: object, **__: object) -> None:
            raise MlflowException("API request failed")

        for name in ("search_runs", "get_model_version", "search_registered_models"):
            monkeypatch.setattr(MlflowClient, name, away)
        for reference in ("things@1", "probe/0"):
            with pytest.raises(MlflowException, match="API request failed"):
                pull(client, reference, tmp_path / "to")

    def test_twice_to_one_place_at_the_same_time_leaves_one_whole_model(
        self, client: MlflowClient, model: Path, tmp_path: Path, registered: Register, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both have begun before either has ended."""
        registered(model, "probe/0", gate_of(1))
        both, download = threading.Barrier(2), registry.download_artifacts

        def together(address: str, **options: Any) -> str:
            if address.endswith(SEGMENTER):
                both.wait(timeout=60)
            return download(address, **options)

        monkeypatch.setattr(registry, "download_artifacts", together)

        def attempt(_: int) -> str:
            try:
                return pull(client, "things@champion", tmp_path / "to")[0]
            except UserError as error:
                return str(error)

        with ThreadPoolExecutor(2) as pool:
            told = sorted(pool.map(attempt, range(2)))
        assert told[1] == "things version 1"
        assert told[0].startswith(f"{tmp_path / 'to'} exists already")
        load(tmp_path / "to")
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".to")]


def test_the_trials_of_all_versions_are_found_however_many_pages_they_fill(
    client: MlflowClient, run_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of those that another program registered, and not of what has no trial."""
    for name, key, tags in (("a", "probe/1", {KEY_TAG: "probe/1"}), ("b", "probe/2", {})):
        client.create_registered_model(name)
        client.create_model_version(name, "source", run_id=run_of(key), tags=tags)
        client.create_model_version(name, "source")
    search = MlflowClient.search_model_versions

    def one_a_page(client: MlflowClient, **options: Any) -> Any:
        return search(client, **options, max_results=1)

    monkeypatch.setattr(MlflowClient, "search_model_versions", one_a_page)
    assert registered_keys(client) == {"probe/1", "probe/2"}
