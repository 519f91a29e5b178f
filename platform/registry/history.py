"""The moves of a model's aliases, kept in MLflow, which has no comparison before it writes an alias.

A record is a version of a second registered model, `<name>.history`: MLflow numbers versions, each number once, so that
all see the records in one order, and of several promoters exactly one is first (`counting`). The
alias follows.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from pydantic import TypeAdapter, ValidationError

from ...models.reference import HISTORY
from ...trainers.errors import UserError
from .moves import CANDIDATE, CHAMPION, Move, Past, Record, counting

_MOVE = "advseg.move"
"""Tag of a version there: the move as JSON. Once that is done, its description says so."""
_HISTORY_OF = "advseg.history_of"
"""Tag of a model with records: whose they are."""
_HISTORY = "advseg.history"
"""Tag of a model whose aliases were moved: the model with the records, whatever this one is called by now."""
_BEGUN = ""
"""Its value until that is made."""
_NO_TEXT = re.compile(r"[\"'`\\]")
_MOVES = TypeAdapter(Move)


def read_past(client: MlflowClient, name: str) -> Past:
    """What is recorded of a model, and its aliases. Nothing is made or changed."""
    records = _records(client, client.get_registered_model(name))
    # Not before the records: an alias that is older than they are would pass for one that was moved back by hand.
    aliases = client.get_registered_model(name).aliases
    return Past(
        records=counting(records), aliases={alias: int(seat) for alias, seat in aliases.items()}, now=time.time()
    )


def ensure_history(client: MlflowClient, name: str) -> RegisteredModel:
    """The model with the records of another, made if there never was one. Raises UserError as `find_history` does."""
    model = client.get_registered_model(name)
    if (found := find_history(client, model)) and model.tags.get(_HISTORY):
        return found
    history = f"{name}{HISTORY}"
    # First, for whoever may not change the model must not become the owner of its history.
    _insist(lambda: client.set_registered_model_tag(name, _HISTORY, _BEGUN))
    description = (
        f"Who moved the aliases of {name}, when and why, in the words of `advseg models history {name}`: no models, "
        "each version is a move. One without a description did not happen, or somebody is at it."
    )
    create_model(client, history, {_HISTORY_OF: name}, description)
    _insist(lambda: client.set_registered_model_tag(name, _HISTORY, history))
    return client.get_registered_model(history)


def find_history(client: MlflowClient, model: RegisteredModel) -> RegisteredModel | None:
    """The model with the records of another; None if there never was one.

    Raises UserError if it was deleted, or if it holds the records of a model that had the name of this one before.
    """
    place, name = _place(model), model.name
    try:
        found = client.get_registered_model(place)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        if not model.tags.get(_HISTORY):
            return None
        raise UserError(
            f"the moves of {name} are recorded in {place}, as its tag {_HISTORY} says, but that was deleted or renamed "
            f"in MLflow: set the tag to its new name; or delete the tag, and a history begins in which sweeps that are "
            "submitted again decide anew"
        ) from None
    others = (each.name for each in registered_models(client) if each.tags.get(_HISTORY) == place)
    if not model.tags.get(_HISTORY) and (other := next((other for other in others if other != name), None)):
        raise UserError(
            f"{place} records the moves of {other}, which was called {name} before: in MLflow rename it to "
            f"{other}{HISTORY}, and set the tag {_HISTORY} of {other} to that"
        )
    return found


def versions_of(client: MlflowClient, name: str) -> list[ModelVersion]:
    """The versions of a registered model, the oldest first."""
    # There is no way to write quotes in MLflow's filters.
    like = _NO_TEXT.sub("_", name)
    found = client.search_model_versions(f"name LIKE '{like}'", order_by=["version_number ASC"])
    return [version for version in found if version.name == name]


def create_model(
    client: MlflowClient, name: str, tags: dict[str, str] | None = None, description: str | None = None
) -> None:
    """Make a registered model, unless somebody was faster."""
    try:
        client.create_registered_model(name, tags, description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def move_alias(
    client: MlflowClient, name: str, decide: Callable[[Past], Move | None], check: Callable[[], object]
) -> Record | None:
    """Make one move that `decide` wants, recorded; None if it wants none.

    It is asked anew whenever another promoter was faster. `check` raises if the move is not ours to make any more; it
    is asked immediately before each record is written. Raises what the two raise.
    """
    ensure_history(client, name)
    model = client.get_registered_model(name)
    won = None
    while won is None and (move := decide(read_past(client, name))) is not None:
        check()
        _write(client, model, move)
        records = _records(client, model)
        if all(record.move != move for record in records):
            raise UserError(
                f"the move of {name}@{move.alias} was written to {_place(model)}, and cannot be read there: try again"
            )
        # MLflow's client repeats a request whose answer was lost: of two that are the same the first counts.
        won = next((record for record in counting(records) if record.move == move), None)
    if won:
        _carry_out(client, model, won)
    # Whoever wrote these may have died before the alias was moved.
    for record in read_past(client, name).undone():
        _carry_out(client, model, record)
    return won


def _carry_out(client: MlflowClient, model: RegisteredModel, record: Record) -> None:
    """Move an alias as it was recorded, and note that with the record."""
    newest = record
    while True:
        _set_alias(client, model.name, newest.move)
        found = [each for each in counting(_records(client, model)) if each.move.alias == record.move.alias]
        if not found or found[-1].number <= newest.number:
            break
        # Somebody else went on meanwhile, whose alias this may have overwritten.
        newest = found[-1]
    client.update_model_version(_place(model), str(record.number), str(record.move))


def _set_alias(client: MlflowClient, name: str, move: Move) -> None:
    try:
        _insist(lambda: client.set_registered_model_alias(name, move.alias, str(move.to_version)))
    except MlflowException as error:
        # With a version that was deleted meanwhile its aliases went, too.
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _insist(write: Callable[[], object]) -> None:
    """Write a tag or an alias. MLflow looks whether it is there before it inserts it, and of two who do so at once it
    refuses one; who asks again finds it there."""
    try:
        write()
    except MlflowException as error:
        if error.error_code != "BAD_REQUEST":
            raise
        write()


def _write(client: MlflowClient, model: RegisteredModel, move: Move) -> None:
    source = f"models:/{model.name}/{move.to_version}"
    tags = {_MOVE: json.dumps(asdict(move))}
    client.create_model_version(_place(model), source, tags=tags, await_creation_for=0)


def _place(model: RegisteredModel) -> str:
    """The name of the model with the records of another."""
    return model.tags.get(_HISTORY) or f"{model.name}{HISTORY}"


def _records(client: MlflowClient, model: RegisteredModel) -> list[Record]:
    """All records of a model, those that do not count as well."""
    begun = model.creation_timestamp or 0
    # Of a model of this name that was deleted there may be records, too.
    found = [each for each in versions_of(client, _place(model)) if each.creation_timestamp >= begun]
    records = [record for each in found if (record := _record(each))]
    if all(record.is_done for record in records):
        return records
    # No alias follows to a version that there is not, or not any more.
    existing = {int(each.version) for each in versions_of(client, model.name)}
    return [replace(each, is_done=each.is_done or each.move.to_version not in existing) for each in records]


def _record(version: ModelVersion) -> Record | None:
    """What a version records; None of one that somebody made for another purpose, or to do harm."""
    try:
        move = _MOVES.validate_json(version.tags.get(_MOVE, ""))
    except ValidationError:
        return None
    if move.alias not in (CHAMPION, CANDIDATE):
        return None
    return Record(
        number=int(version.version),
        at=version.creation_timestamp / 1000,
        move=move,
        is_done=bool(version.description),
    )


def registered_models(client: MlflowClient) -> Iterator[RegisteredModel]:
    """All registered models, without those that hold records."""
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        yield from (model for model in page if _HISTORY_OF not in model.tags)
        if not (token := page.token):
            return


@contextmanager
def permitted(client: MlflowClient, name: str) -> Iterator[None]:
    """Raises UserError, which says what is missing, if MLflow does not let us change a model."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        user = os.environ.get("MLFLOW_TRACKING_USERNAME", "who asks")
        raise UserError(
            f"{user} may not change the registered model {name} in MLflow at {client.tracking_uri} "
            f"(PERMISSION_DENIED): whoever made it, or an admin, has to grant EDIT on {name} and {name}{HISTORY}"
        ) from None
