"""Keys of a run's description that have another place than in older versions, or none."""

from collections.abc import Mapping
from typing import Any

_KNOBS = (
    "lambda_adv",
    "lambda_semi_adv",
    "lambda_semi",
    "threshold",
    "semi_start",
    "semi_adv_start",
    "discriminator_sees_unlabelled",
    "discriminator_optimizer",
)
MOVED: dict[str, str] = {"discriminator": "method.discriminator"} | {f"trainer.{k}": f"method.{k}" for k in _KNOBS}
"""The place now of each key of before."""
GONE: dict[str, tuple[Any, str]] = {
    "trainer.speed.augment_on_device": (False, "processes of trainer.speed.workers draw batches instead"),
}
"""Of each key that has no place any more, the value with which it did nothing, and what there is for it."""


def moves(document: Mapping[str, Any]) -> list[str]:
    """Which keys of a document moved where: `trainer.threshold is method.threshold now`. None of one of today."""
    return [f"{old} is {new} now" for old, new in MOVED.items() if _holds(document, old.split("."))]


def _holds(document: Any, key: list[str]) -> bool:
    for name in key:
        if not isinstance(document, Mapping) or name not in document:
            return False
        document = document[name]
    return True


def without_gone(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document of before without the keys that are gone, where they did nothing."""
    kept = {**document}
    for key, (off, _) in GONE.items():
        if _holds(kept, key.split(".")):
            _drop(kept, key.split("."), off)
    return kept


def _drop(document: dict[str, Any], key: list[str], off: Any) -> None:
    first, *rest = key
    if rest:
        document[first] = {**document[first]}
        _drop(document[first], rest, off)
    elif document[first] == off:
        del document[first]
