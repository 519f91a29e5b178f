"""Promoters who see the same champion at the same moment, on real MLflow servers, and answers that get lost."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow_servers import PASSWORD, USER, Server
from proxy import Proxy

from advseg.platform.registry.by_hand import promote
from advseg.platform.registry.history import HISTORY, move_alias, read_past
from advseg.platform.registry.moves import CANDIDATE, CHAMPION, Move, Past, entries
from advseg.platform.registry.registering import Registered, register
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run
from advseg.trainers.errors import UserError

from .conftest import gate_of

pytestmark = pytest.mark.xdist_group("own servers")

PROMOTERS = 10


def models_of(client: MlflowClient, name: str, number: int) -> None:
    """A registered model of so many versions."""
    client.create_registered_model(name)
    for _ in range(number):
        client.create_model_version(name, "s3://bucket/model")


def at_once(work: Callable[[int], object], number: int) -> list[object]:
    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(work, range(1, number + 1)))


def one_round(uri: str, seen: int | None) -> int:
    """Who wins of all that see the same champion before any of them has moved it."""
    wanting = [number for number in range(1, PROMOTERS + 1) if number != seen]
    barrier = threading.Barrier(len(wanting))

    def promoter(number: int) -> int | None:
        first = iter([True])

        def decide(past: Past) -> Move | None:
            if next(first, False):
                barrier.wait(60)
            return past.move(CHAMPION, number, f"better than {seen}") if past.seated(CHAMPION) == seen else None

        record = move_alias(MlflowClient(uri), "raced", decide, lambda: None)
        return record.move.to_version if record else None

    with ThreadPoolExecutor(len(wanting)) as pool:
        (winner,) = filter(None, pool.map(promoter, wanting))
    return winner


def test_of_ten_that_saw_the_same_champion_one_wins_each_round(server: Server) -> None:
    client = MlflowClient(server.uri)
    models_of(client, "raced", PROMOTERS)
    winners: list[int] = []
    for _ in range(2):
        winners.append(one_round(server.uri, winners[-1] if winners else None))
        past = read_past(client, "raced")
        assert [record.move.to_version for record in past.records] == winners
        assert (past.aliases, past.undone()) == ({CHAMPION: winners[-1]}, [])


def test_five_that_want_it_whoever_sits_there_follow_each_other(server: Server) -> None:
    models_of(MlflowClient(server.uri), "taken", 5)
    at_once(lambda number: promote(MlflowClient(server.uri), f"taken@{number}", "mine"), 5)
    past = read_past(MlflowClient(server.uri), "taken")
    assert sorted(record.move.to_version for record in past.records) == list(range(1, 5 + 1))
    # Each displaced the one before it, and nobody took another's late write for a move by hand.
    assert all(entry.by for entry in entries(past))
    assert past.aliases == {CHAMPION: past.records[-1].move.to_version}


def test_of_two_sweeps_that_register_the_first_of_a_name_one_is_champion(
    server: Server, judged: Callable[..., Path]
) -> None:
    model = judged()
    runs = {
        number: ensure_run(MlflowClient(server.uri), RunIdentity(experiment="new", key=f"new/{number}"))
        for number in (1, 2)
    }
    barrier = threading.Barrier(2)

    def sweep(number: int) -> Registered:
        barrier.wait(60)
        key = f"new/{number}"
        return register(MlflowClient(server.uri), model, "new", runs[number], key, gate_of(1), lambda: None)

    first, second = sorted(at_once(sweep, 2), key=lambda registered: registered.alias == CANDIDATE)  # type: ignore[attr-defined]
    assert (first.alias, second.alias) == (CHAMPION, CANDIDATE)
    assert second.reason == f"it was not compared with the champion, version {first.version}"
    past = read_past(MlflowClient(server.uri), "new")
    assert past.aliases == {CHAMPION: int(first.version), CANDIDATE: int(second.version)}
    assert {first.version, second.version} == {"1", "2"}


def test_answers_that_get_lost_make_nothing_twice(server: Server, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's client repeats a request whose answer does not come."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    lost: set[tuple[str, bytes]] = set()

    def loses_the_first(path: str, body: bytes) -> bool:
        first = path.startswith("/api/2.0/mlflow/") and "search" not in path and (path, body) not in lost
        first = first and any(each in path for each in ("registered-models", "model-versions"))
        lost.update([(path, body)] if first else [])
        return first

    with Proxy(server.uri).serving() as proxy:
        client = MlflowClient(proxy.uri)
        run_id = ensure_run(client, RunIdentity(experiment="lossy", key="lossy/0"))
        proxy.loses = loses_the_first
        assert register(client, model, "lossy", run_id, "lossy/0", gate_of(1), lambda: None).alias == CHAMPION
    assert len([path for path, _ in lost if path.endswith("/create")]) == 4
    client = MlflowClient(server.uri)
    assert [version.version for version in client.search_model_versions("name = 'lossy'")] == ["1"]
    past = read_past(client, "lossy")
    assert [entry.to_version for entry in entries(past)] == [1]
    assert past.aliases == {CHAMPION: 1}


def test_an_account_that_may_only_read_is_told_what_is_missing(
    authenticating: Server, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(path: str, body: dict[str, str]) -> None:
        address = f"{authenticating.uri}/api/{path}"
        requests.post(address, json=body, auth=(USER, PASSWORD), timeout=60).raise_for_status()

    @contextmanager
    def as_account(user: str) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_USERNAME", user)
            yield

    for name, value in (("USERNAME", USER), ("PASSWORD", PASSWORD)):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    client = MlflowClient(authenticating.uri)
    models_of(client, "theirs", 2)
    ask("2.0/mlflow/users/create", {"username": "looker", "password": PASSWORD})
    with as_account("looker"):
        run_id = ensure_run(client, RunIdentity(experiment="looking", key="looking/0"))
    missing = (
        f"^looker may not change the registered model theirs in MLflow at {authenticating.uri} "
        r"\(PERMISSION_DENIED\): whoever made it, or an admin, has to grant EDIT on theirs and theirs\.history$"
    )

    def is_refused() -> None:
        with as_account("looker"):
            with pytest.raises(UserError, match=missing):
                promote(client, "theirs@2", "")
            with pytest.raises(UserError, match=missing):
                register(client, model, "theirs", run_id, "looking/0", gate_of(1), lambda: None)

    is_refused()
    # Whoever may only read has not become the owner of what was missing.
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model(f"theirs{HISTORY}")
    promote(client, "theirs@1", "")
    is_refused()
    for name in ("theirs", f"theirs{HISTORY}"):
        grant = {"username": "looker", "resource_type": "registered_model", "resource_id": name, "permission": "EDIT"}
        ask("3.0/mlflow/users/permissions/grant", grant)
    with as_account("looker"):
        promote(client, "theirs@2", "")
    assert [entry.to_version for entry in entries(read_past(client, "theirs"))] == [1, 2]
