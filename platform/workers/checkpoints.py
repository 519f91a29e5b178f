"""A training's checkpoints as its store has them.

PyTorch, for which a driver that starts workers does not wait, is imported where it is used.
"""

import json
from dataclasses import dataclass

from ..base.keys import is_of_sweep, key_of
from ..storage.store import MissingKeyError, Store


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A checkpoint that has its manifest."""

    step: int
    """Steps that it holds."""
    key: str
    """Where it is in the training's own store."""


def sealed_checkpoints(store: Store) -> list[Sealed]:
    """Those of a training, newest first; what they hold is not read."""
    from ...models.manifest import MANIFEST
    from ...trainers.checkpoint import CHECKPOINTS, step_of

    found = [key.split("/") for key in store.keys(CHECKPOINTS)]
    names = [parts[1] for parts in found if len(parts) == 3 and parts[2] == MANIFEST]
    sealed = [Sealed(step=step, key=f"{CHECKPOINTS}/{name}") for name in names if (step := step_of(name)) is not None]
    return sorted(sealed, key=lambda checkpoint: checkpoint.step, reverse=True)


@dataclass(frozen=True, kw_only=True)
class Held:
    """All that a store has of a training's checkpoints, whole or not."""

    bytes: int = 0
    changed: float = 0.0
    """When any of it was written last, in seconds since 1970."""


def held_checkpoints(store: Store, prefix: str = "") -> dict[str, Held]:
    """What a store has below a prefix of trainings that may be a sweep's, by their keys."""
    from ...trainers.checkpoint import CHECKPOINTS

    held: dict[str, Held] = {}
    for entry in store.entries(prefix):
        sweep, _, rest = entry.key.partition("/")
        trial, _, rest = rest.partition("/")
        if is_of_sweep(trial) and rest.startswith(f"{CHECKPOINTS}/"):
            key = key_of(sweep, trial)
            before = held.get(key, Held())
            held[key] = Held(bytes=before.bytes + entry.bytes, changed=max(before.changed, entry.changed))
    return held


def remove_checkpoints(store: Store) -> None:
    """Remove all of a training's."""
    from ...trainers.checkpoint import CHECKPOINTS

    store.remove(CHECKPOINTS)


def newest_sealed(store: Store) -> Sealed | None:
    """The newest checkpoint of a training; None before the first."""
    return next(iter(sealed_checkpoints(store)), None)


def checksum_of(store: Store, sealed: Sealed) -> str | None:
    """The checksum by which a checkpoint's manifest stands for all that it names; None if there is none to read."""
    from ...models.manifest import MANIFEST

    try:
        return str(json.loads(store.read(f"{sealed.key}/{MANIFEST}"))["checksum"])
    except (MissingKeyError, ValueError, KeyError, TypeError):
        return None
