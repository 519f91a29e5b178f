"""A training without a sweep has an id of its own, beside its checkpoints: two people may choose one name."""

import uuid

from ..storage.store import MissingKeyError, Store

FILE = "training_id"


def ensure_training_id(store: Store) -> str:
    """The id of the training whose own the store is, 32 hexadecimal digits, made if there is none."""
    if not _read(store):
        store.write(FILE, uuid.uuid4().hex.encode())
    # Of several that made one at once, the one that is there counts.
    return _read(store)


def _read(store: Store) -> str:
    """The id; empty if there is none."""
    try:
        return store.read(FILE).decode().strip()
    except MissingKeyError:
        return ""
