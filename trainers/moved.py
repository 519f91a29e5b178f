"""Keys of a run's description that have another place than in older versions."""

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


def moves(document: Mapping[str, Any]) -> list[str]:
    """Which keys of a document moved where: `trainer.threshold is method.threshold now`. None of one of today."""
    return [f"{old} is {new} now" for old, new in MOVED.items() if _holds(document, old.split("."))]


def _holds(document: Any, key: list[str]) -> bool:
    for name in key:
        if not isinstance(document, Mapping) or name not in document:
            return False
        document = document[name]
    return True
