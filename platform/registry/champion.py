"""The best trial against the supervised baseline."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow.tracking import MlflowClient

from ...models.bundle import read_card
from ...models.manifest import BrokenDirectoryError
from ...trainers.errors import UserError
from ..base.keys import MODEL, key_of
from ..ledger.rows import Row
from ..storage.store import MissingKeyError, Store
from ..tracking.runs import run_of
from .registering import Registered, log_model, register


def keep_model(client: MlflowClient, store: Store, sweep: str, key: str, checksum: str | None) -> None:
    """Log the model that a finished training left in its run. Raises UserError as `trained_model` does."""
    run_id = run_of(client, sweep, key)
    with trained_model(store, key, checksum) as model:
        log_model(client, model, run_id)


def crown(
    client: MlflowClient, store: Store, sweep: str, best: Row, name: str, check: Callable[[], object]
) -> Registered:
    """Register the model of the best trial as a version of `name`; `check` as for `register`.

    Raises UserError as `trained_model` does, and then nothing is registered.
    """
    key = key_of(sweep, best.number)
    run_id = run_of(client, sweep, key)
    with trained_model(store, key, best.account.checksum) as model:
        return register(client, model, name, run_id, key, check)


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
