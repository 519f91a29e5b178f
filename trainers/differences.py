"""In what two descriptions, as JSON has them, differ."""

from collections.abc import Iterator
from typing import Any

SHOWN = 3
_UNSET = object()


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
