"""The best trial, and who sits where it may come to sit."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ...models.bundle import read_card
from ...models.manifest import BrokenDirectoryError
from ...trainers.errors import UserError
from ..base.keys import MODEL, key_of
from ..gate.verdict import Gate
from ..ledger.rows import Row
from ..storage.store import MissingKeyError, Store
from ..tracking.runs import run_of
from .history import read_past
from .promotion import Standing, standing_of
from .registering import Registered, describe_model, log_model, register
from .registry import CHAMPION, pull_card


def keep_model(client: MlflowClient, store: Store, sweep: str, key: str, checksum: str | None) -> None:
    """Log the model that a finished training left in its run, described. Raises UserError as `trained_model` does."""
    run_id = run_of(client, sweep, key)
    with trained_model(store, key, checksum) as model:
        log_model(client, model, run_id)
        describe_model(client, model, run_id)


def crown(
    client: MlflowClient,
    store: Store,
    sweep: str,
    best: Row,
    name: str,
    gate: Gate | None,
    check: Callable[[], object],
) -> Registered:
    """Register the model of a trial as a version of `name`; `gate` and `check` as for `register`.

    Raises UserError as `trained_model` does, and then nothing is registered.
    """
    key = key_of(sweep, best.number)
    run_id = run_of(client, sweep, key)
    with trained_model(store, key, best.account.checksum) as model:
        return register(client, model, name, run_id, key, gate, check)


@dataclass(frozen=True, kw_only=True)
class Champion:
    """Who has to be beaten."""

    standing: Standing
    spec: dict[str, Any]
    """What it was trained by, as JSON."""


def sitting_champion(client: MlflowClient, name: str) -> Champion | None:
    """The champion of a registered model; None if there is none. Raises UserError if it cannot be read."""
    try:
        seated = read_past(client, name).seated(CHAMPION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    if seated is None:
        return None
    number = str(seated)
    version = client.get_model_version(name, number)
    card = pull_card(client, f"{name}@{number}")[1]
    return Champion(standing=standing_of(number, card, version.run_id), spec=card.lineage.get("spec", {}))


@contextmanager
def trained_model(store: Store, key: str, checksum: str | None) -> Iterator[Path]:
    """A folder of this machine with the model that the training with a key left in a store, whole.

    `checksum` is that of its last checkpoint as the ledger has it; where there is no ledger or an old one, None is any.
    Raises UserError if there is no model, or it is damaged or of another checkpoint.
    """
    own = store.at(key)
    with tempfile.TemporaryDirectory(prefix="advseg-") as scratch:
        model = own.folder / MODEL if own.folder else Path(scratch) / MODEL
        try:
            own.get(MODEL, model)
            card = read_card(model)
        except (MissingKeyError, BrokenDirectoryError) as error:
            raise UserError(f"{key} has no model in {own.address} ({error}): restore that folder") from None
        if checksum is not None and card.lineage.get("checkpoint") != checksum:
            raise UserError(
                f"{key} has no model: that in {own.address} is not of the checkpoint that the ledger recorded, whose "
                f"checksum is {checksum[:12]}: restore that one"
            )
        yield model
