"""Moves of aliases: recorded, carried out, told and taken back."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from advseg.platform.gate.verdict import Gate
from advseg.platform.registry.by_hand import promote, rollback
from advseg.platform.registry.history import HISTORY, read_past, registered_models
from advseg.platform.registry.moves import CANDIDATE, CHAMPION, UNRECORDED, entries
from advseg.platform.registry.registering import Registered, log_model
from advseg.platform.registry.registry import pull
from advseg.platform.registry.versions import list_versions
from advseg.platform.tracking.runs import KEY_TAG
from advseg.trainers.errors import UserError

from .conftest import gate_of

Register = Callable[..., Registered]


@pytest.fixture
def things(client: MlflowClient) -> MlflowClient:
    """A registered model of four versions."""
    client.create_registered_model("things")
    for _ in range(4):
        client.create_model_version("things", "s3://bucket/model")
    return client


class Killed(BaseException):
    """The process is, before it can do anything about it."""


@contextmanager
def killed_before(method: str) -> Iterator[None]:
    """A promoter that is killed before a request, of the name of a client's method."""

    def die(*_: object, **__: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(MlflowClient, method, die)
        yield


def champion(client: MlflowClient) -> int:
    return int(client.get_model_version_by_alias("things", CHAMPION).version)


def wait_past(version: ModelVersion) -> None:
    """Until MLflow's clock, which counts milliseconds, tells what comes now from a version."""
    while int(time.time() * 1000) <= version.creation_timestamp:
        pass


def told(client: MlflowClient) -> list[tuple[int | None, int | None]]:
    return [(entry.from_version, entry.to_version) for entry in entries(read_past(client, "things"))]


class TestByHand:
    def test_a_promotion_is_recorded_with_who_and_why(self, things: MlflowClient) -> None:
        assert promote(things, "things@2", "it was\nasked for") == "things@champion is version 2: it was asked for"
        assert promote(things, "things@3", "by hand") == "things@champion is version 3, after version 2: by hand"
        assert champion(things) == 3
        first, second = entries(read_past(things, "things"))
        assert (first.alias, first.from_version, first.to_version, first.why) == (CHAMPION, None, 2, "it was asked for")
        assert (second.from_version, second.to_version, second.sweep, second.gate) == (2, 3, None, None)
        assert second.by and "@" in second.by
        assert first.at and second.at and first.at <= second.at

    def test_an_alias_names_the_version_too(self, things: MlflowClient) -> None:
        things.set_registered_model_alias("things", CANDIDATE, "4")
        promote(things, "things@candidate", "by hand")
        assert champion(things) == 4

    def test_of_who_sits_there_already_nothing_is_recorded(self, things: MlflowClient) -> None:
        promote(things, "things@2", "by hand")
        assert promote(things, "things@champion", "by hand") == "things@champion is version 2 already"
        assert told(things) == [(None, 2)]

    @pytest.mark.parametrize(
        ("reference", "message"),
        [
            ("things", r"^'things' must be <name>@<version> or <name>@<alias>, as in shapes@3$"),
            ("probe/0", r"^'probe/0' must be <name>@<version> or <name>@<alias>, as in shapes@3$"),
            ("things@9", r"^there is no model things@9; registered models: things \(\)$"),
            ("things@champion", r"^things has no champion; `advseg models list` lists its versions$"),
            ("others@1", r"^there is no model others@1; registered models: things \(\)$"),
            ("things.history@1", r"^there is no model things\.history@1; registered models: things \(champion\)$"),
        ],
    )
    def test_what_there_is_not_is_told_in_a_line(self, things: MlflowClient, reference: str, message: str) -> None:
        if HISTORY in reference:
            promote(things, "things@1", "by hand")
        with pytest.raises(UserError, match=message):
            promote(things, reference, "by hand")


class TestRollback:
    def test_goes_one_further_back_each_time_and_is_recorded(self, things: MlflowClient) -> None:
        for version in (1, 2, 3):
            promote(things, f"things@{version}", "by hand")
        assert rollback(things, "things") == "things@champion is version 2, after version 3: rolled back"
        assert rollback(things, "things") == "things@champion is version 1, after version 2: rolled back"
        with pytest.raises(UserError, match=r"^no earlier champion of things is still there: `advseg models promote"):
            rollback(things, "things")
        assert champion(things) == 1
        assert told(things) == [(None, 1), (1, 2), (2, 3), (3, 2), (2, 1)]

    def test_undoes_what_was_done_in_mlflow(self, things: MlflowClient) -> None:
        promote(things, "things@1", "by hand")
        things.set_registered_model_alias("things", CHAMPION, "4")
        rollback(things, "things")
        assert champion(things) == 1
        assert told(things) == [(None, 1), (1, 4), (4, 1)]

    def test_passes_over_a_version_that_was_deleted(self, things: MlflowClient) -> None:
        for version in (1, 2, 3):
            promote(things, f"things@{version}", "by hand")
        things.delete_model_version("things", "2")
        rollback(things, "things")
        assert champion(things) == 1

    def test_of_a_deleted_champion_brings_back_the_one_before(self, things: MlflowClient) -> None:
        for version in (1, 2):
            promote(things, f"things@{version}", "by hand")
        things.delete_model_version("things", "2")
        assert rollback(things, "things") == "things@champion is version 1: rolled back"

    def test_of_what_somebody_moves_meanwhile_is_refused(
        self, things: MlflowClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for version in (1, 2):
            promote(things, f"things@{version}", "by hand")
        create = MlflowClient.create_model_version
        others = iter([3])

        def late(self: MlflowClient, *arguments: Any, **options: Any) -> Any:
            for version in others:
                promote(self, f"things@{version}", "it was faster")
            return create(self, *arguments, **options)

        monkeypatch.setattr(MlflowClient, "create_model_version", late)
        with pytest.raises(UserError, match=r"^somebody moved an alias of things just now: look at `advseg models"):
            rollback(things, "things")
        assert champion(things) == 3
        assert told(things) == [(None, 1), (1, 2), (2, 3)]

    def test_of_a_model_that_there_is_not_is_told_in_a_line(self, things: MlflowClient) -> None:
        with pytest.raises(UserError, match=r"^there is no model others; registered models: things \(\)$"):
            rollback(things, "others")

    def test_takes_the_model_alone(self, things: MlflowClient) -> None:
        with pytest.raises(UserError, match=r"^'things@champion' names a version, .* name it alone, as in things$"):
            rollback(things, "things@champion")


class TestInMlflow:
    def test_a_move_there_is_told_by_the_next_one(self, things: MlflowClient) -> None:
        promote(things, "things@1", "by hand")
        things.set_registered_model_alias("things", CHAMPION, "4")
        promote(things, "things@2", "by hand")
        assert [(entry.to_version, entry.why) for entry in entries(read_past(things, "things"))] == [
            (1, "by hand"),
            (4, UNRECORDED),
            (2, "by hand"),
        ]

    def test_the_records_are_no_model_and_say_what_they_are(self, things: MlflowClient, tmp_path: Path) -> None:
        promote(things, "things@2", "by hand")
        assert [model.name for model in registered_models(things)] == ["things"]
        history = things.get_registered_model("things.history")
        assert history.description.startswith("Who moved the aliases of things, when and why")
        (record,) = things.search_model_versions("name = 'things.history'")
        assert record.description == "champion is version 2: by hand"
        with pytest.raises(UserError, match=r"^there is no model things\.history@1; registered models: things"):
            pull(things, "things.history@1", tmp_path / "x")

    def test_what_somebody_else_puts_beside_the_records_is_none(self, things: MlflowClient) -> None:
        promote(things, "things@2", "by hand")
        things.create_model_version("things.history", "s3://bucket/model")
        things.create_model_version("things.history", "s3://bucket/model", tags={"advseg.move": '{"alias": 1}'})
        promote(things, "things@3", "by hand")
        assert told(things) == [(None, 2), (2, 3)]

    @pytest.mark.parametrize("done", [None, "champion is version 2: by hand"])
    @pytest.mark.parametrize(
        "of", [{"alias": "a/b c?"}, {"alias": "latest"}, {"to_version": -7}, {"to_version": 10**30}, {"to_version": 9}]
    )
    def test_what_somebody_forges_among_the_records_moves_nothing(
        self, things: MlflowClient, of: dict[str, Any], done: str | None
    ) -> None:
        promote(things, "things@2", "by hand")
        forged = replace(read_past(things, "things").move(CHAMPION, 3, "forged"), **of)
        tags = {"advseg.move": json.dumps(asdict(forged))}
        things.create_model_version("things.history", "s3://bucket/model", tags=tags, description=done)
        assert read_past(things, "things").seated(CHAMPION) == 2
        assert promote(things, "things@4", "by hand") == "things@champion is version 4, after version 2: by hand"
        assert rollback(things, "things") == "things@champion is version 2, after version 4: rolled back"
        assert things.get_registered_model("things").aliases == {CHAMPION: 2}

    def test_of_a_model_that_is_renamed_the_moves_stay_known(self, things: MlflowClient) -> None:
        for version in (1, 2):
            promote(things, f"things@{version}", "by hand")
        things.rename_registered_model("things", "others")
        assert rollback(things, "others") == "others@champion is version 1, after version 2: rolled back"
        assert [entry.to_version for entry in entries(read_past(things, "others"))] == [1, 2, 1]
        things.create_registered_model("things")
        things.create_model_version("things", "s3://bucket/model")
        with pytest.raises(
            UserError, match=r"^things\.history records the moves of others, .* in MLflow rename it to "
        ):
            promote(things, "things@1", "by hand")
        things.rename_registered_model("things.history", "others.history")
        things.set_registered_model_tag("others", "advseg.history", "others.history")
        promote(things, "things@1", "by hand")
        promote(things, "others@3", "by hand")
        assert told(things) == [(None, 1)]
        assert [entry.to_version for entry in entries(read_past(things, "others"))] == [1, 2, 1, 3]

    def test_once_the_records_are_deleted_nothing_is_moved(
        self, client: MlflowClient, judged: Callable[..., Path], registered: Register, run_of: Callable[[str], str]
    ) -> None:
        gate = gate_of(1, run_of("one/0"))
        registered(judged(), "one/0", gate_of(1))
        registered(judged(), "two/0", gate)
        rollback(client, "things")
        client.delete_registered_model("things.history")
        for move in (
            lambda: registered(judged(), "two/0", gate),
            lambda: promote(client, "things@2", "by hand"),
            lambda: rollback(client, "things"),
        ):
            with pytest.raises(UserError, match=r"^the moves of things are recorded in things\.history, .* deleted or"):
                move()
        assert champion(client) == 1
        client.delete_registered_model_tag("things", "advseg.history")
        promote(client, "things@2", "by hand")
        assert told(client) == [(None, 1), (1, 2)]

    @pytest.mark.parametrize("name", ["it's", 'a "b"', """it's "b" \\ `c`"""])
    def test_a_name_with_quotes_is_a_name(self, client: MlflowClient, name: str) -> None:
        for each in (name, name.replace("'", "_")):
            with suppress(MlflowException):
                client.create_registered_model(each)
            for _ in range(2):
                client.create_model_version(each, "s3://bucket/model")
        for version in (1, 2):
            promote(client, f"{name}@{version}", "by hand")
        rollback(client, name)
        assert [entry.to_version for entry in entries(read_past(client, name))] == [1, 2, 1]
        assert {each.name for each in list_versions(client)} == {name, name.replace("'", "_")}


class TestKilled:
    @pytest.mark.parametrize("method", ["set_registered_model_alias", "update_model_version"])
    @pytest.mark.parametrize("next_one", ["things@2", "things@3"])
    def test_between_record_and_alias_the_next_one_repairs(
        self, things: MlflowClient, method: str, next_one: str
    ) -> None:
        promote(things, "things@1", "by hand")
        with killed_before(method):
            promote(things, "things@2", "by hand")
        assert told(things) == [(None, 1), (1, 2)]
        promote(things, next_one, "by hand")
        assert champion(things) == int(next_one[-1])
        assert told(things) == [(None, 1), (1, 2), *([(2, 3)] if next_one == "things@3" else [])]
        assert read_past(things, "things").undone() == []

    def test_with_a_version_that_is_gone_nobody_is_held_up(self, things: MlflowClient) -> None:
        promote(things, "things@1", "by hand")
        with killed_before("set_registered_model_alias"):
            promote(things, "things@2", "by hand")
        things.delete_model_version("things", "2")
        promote(things, "things@3", "by hand")
        assert champion(things) == 3


def test_requests_that_mlflow_s_client_repeats_make_nothing_twice(
    client: MlflowClient, model: Path, registered: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    for method in ("create_registered_model", "create_model_version", "set_registered_model_alias"):
        request = getattr(MlflowClient, method)

        def repeated(*arguments: Any, request: Callable = request, **options: Any) -> Any:
            request(*arguments, **options)
            return request(*arguments, **options)

        monkeypatch.setattr(MlflowClient, method, repeated)
    assert str(registered(model, "probe/0", gate_of(1))).startswith("things@champion (version 1): trial 0 is ")
    assert [version.version for version in client.search_model_versions("name = 'things'")] == [1]
    assert told(client) == [(None, 1)]
    promote(client, "things@1", "by hand")
    rest = registered(model, "probe/1", None)
    assert (rest.version, rest.alias) == ("3", CANDIDATE)


class TestSweep:
    def test_what_it_decides_is_recorded_with_the_gate(
        self, client: MlflowClient, model: Path, registered: Register
    ) -> None:
        registered(model, "probe/0", None)
        registered(model, "probe/0", gate_of(1))
        candidate, champion = entries(read_past(client, "things"))
        assert (candidate.alias, candidate.sweep, candidate.gate) == (CANDIDATE, "probe", None)
        digest = hashlib.sha256(gate_of(1).to_json().encode()).hexdigest()
        assert (champion.alias, champion.sweep, champion.gate) == (CHAMPION, "probe", digest)
        assert champion.why.startswith("trial 0 is 1.00 points above the supervised baseline")

    @pytest.mark.parametrize("gate", [None, gate_of(1)], ids=["no gate", "a gate"])
    def test_that_is_resumed_leaves_what_was_moved_by_hand(
        self, client: MlflowClient, model: Path, registered: Register, gate: Gate | None
    ) -> None:
        for number in range(2):
            registered(model, f"probe/{number}", gate)
        promote(client, "things@2", "by hand")
        client.set_registered_model_alias("things", CANDIDATE, "1")
        assert registered(model, "probe/1", gate).reason == "it was registered before"
        assert client.get_registered_model("things").aliases == {CHAMPION: 2, CANDIDATE: 1}

    def test_that_is_resumed_leaves_a_rollback(
        self, client: MlflowClient, judged: Callable[..., Path], registered: Register, run_of: Callable[[str], str]
    ) -> None:
        registered(judged(), "one/0", gate_of(1))
        gate = gate_of(1, run_of("one/0"))
        assert registered(judged(), "two/0", gate).alias == CHAMPION
        rollback(client, "things")
        assert str(registered(judged(), "two/0", gate)) == "things@2: it was registered before"
        assert champion(client) == 1

    @pytest.mark.parametrize("gate", [None, gate_of(1)], ids=["no gate", "a gate"])
    def test_that_is_resumed_brings_back_no_version_that_was_deleted(
        self, client: MlflowClient, model: Path, registered: Register, gate: Gate | None
    ) -> None:
        registered(model, "probe/0", gate)
        client.delete_model_version("things", "1")
        assert str(registered(model, "probe/0", gate)) == (
            "things@1: it was registered before, and that version was deleted since: it is not registered again"
        )
        assert client.get_registered_model("things").aliases == {}
        assert client.search_model_versions("name = 'things'") == []

    def test_that_is_resumed_after_a_kill_decides_once(
        self, client: MlflowClient, model: Path, registered: Register
    ) -> None:
        with killed_before("set_registered_model_alias"):
            registered(model, "probe/0", gate_of(1))
        assert str(registered(model, "probe/0", gate_of(1))) == "things@champion (version 1): it was registered before"
        assert told(client) == [(None, 1)]

    def test_of_a_model_that_was_deleted_and_made_again_begins_anew(
        self, client: MlflowClient, model: Path, registered: Register
    ) -> None:
        registered(model, "probe/0", gate_of(1))
        client.delete_registered_model("things")
        (record,) = client.search_model_versions("name = 'things.history'")
        wait_past(record)
        assert str(registered(model, "probe/1", None)).startswith("things@candidate (version 1): it is the best of its")
        assert told(client) == [(None, 1)]

    def test_a_version_of_before_there_was_a_history_is_decided_by_a_new_gate_alone(
        self, client: MlflowClient, model: Path, registered: Register, run_of: Callable[[str], str]
    ) -> None:
        client.create_registered_model("things")
        source = log_model(client, model, run_of("probe/0"))
        old = client.create_model_version("things", source, run_id=run_of("probe/0"), tags={KEY_TAG: "probe/0"})
        wait_past(old)
        assert str(registered(model, "probe/0", None)) == "things@1: it was registered before"
        assert registered(model, "probe/0", gate_of(1)).alias == CHAMPION
        assert len(client.search_model_versions("name = 'things'")) == 1
