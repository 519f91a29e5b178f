"""What a checkpoint must share with the run that resumes from it."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ..models.settings import Settings
from .data.dataset import Dataset
from .data.streams import DRAWS

SHOWN = 3
_UNSET = object()


def identity_of(recipe: Settings, dataset: Dataset) -> dict[str, Any]:
    """All that determines the weights at the end, as JSON."""
    data = {"classes": len(dataset.classes), "digest": dataset.digest, "draws": DRAWS}
    identity = json.loads(json.dumps({"dataset": data, **asdict(recipe)}))
    # A run that it stopped is one that may go on with more of it.
    del identity["trainer"]["collapse_patience"]
    del identity["trainer"]["speed"]["prefetch"]
    return identity


def differences(ours: Any, theirs: Any, holder: str = "the checkpoint") -> str:
    """The first keys in which our identity and the holder's differ, with both values; empty if none does."""
    found = [
        f"{key} is {_shown(our)}, but {holder} has {_shown(their)}" for key, our, their in _differing("", ours, theirs)
    ]
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


def _differing(key: str, ours: Any, theirs: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in {**ours, **theirs}:
            yield from _differing(f"{key}.{name}".lstrip("."), ours.get(name, _UNSET), theirs.get(name, _UNSET))
    elif ours != theirs:
        yield key, ours, theirs


def _shown(value: Any) -> str:
    """Cut, so that the message stays a line that people read."""
    text = "nothing" if value is _UNSET else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
