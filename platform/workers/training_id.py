"""A training without a sweep has an id of its own, beside its checkpoints: two people may choose one name."""

import uuid

from ..storage.store import MissingKeyError, Store

FILE = "training_id"


def read_training_id(store: Store) -> str:
    """The id of the training whose own the store is; empty if it has none."""
    try:
        return store.read(FILE).decode().strip()
    except MissingKeyError:
        return ""


def ensure_training_id(store: Store) -> str:
    """The id of the training whose own the store is, 32 hexadecimal digits, made if there is none."""
    if not read_training_id(store):
        store.write(FILE, uuid.uuid4().hex.encode())
    return read_training_id(store)
