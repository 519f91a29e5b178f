"""The MLflow runs of a job: one parent, one child for each training. All are made from a spec's document, as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..base.keys import SINGLE, key_of

SECTIONS = ("dataset", "model", "method", "trainer")
"""What determines a training."""
ARM_TAG = "advseg.arm"
"""Of a trial's run: the arm of its sweep, if that has any."""


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """Which run something is tracked in."""

    experiment: str
    key: str
    id: str = ""
    """Of the sweep, or the training without one: it tells a run from another's of the same key. Empty if unknown."""
    parent: str | None = None
    """Key of the parent run."""
    params: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def sweep_identity(document: Mapping[str, Any], id: str = "") -> RunIdentity:
    """The parent run of a sweep with an id."""
    name = document["name"]
    return RunIdentity(experiment=name, key=name, id=id, params=_flat(document))


def trial_identity(document: Mapping[str, Any], trial: int | str, id: str = "", arm: str | None = None) -> RunIdentity:
    """The run of one training of a sweep with an id, whose values are those of the document."""
    name, tags = document["name"], {ARM_TAG: arm} if arm else {}
    return RunIdentity(experiment=name, key=key_of(name, trial), id=id, parent=name, params=_flat(document), tags=tags)


def single_identity(document: Mapping[str, Any], id: str = "") -> RunIdentity:
    """The run of a training that belongs to no sweep, and has an id of its own."""
    name = document["name"]
    return RunIdentity(experiment=name, key=key_of(name, SINGLE), id=id, params=_flat(document))


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that determine a training, as one level of dotted keys."""
    params: dict[str, Any] = {}
    pending = [(section, document[section]) for section in SECTIONS]
    while pending:
        key, value = pending.pop(0)
        if isinstance(value, dict):
            pending += [(f"{key}.{name}", child) for name, child in value.items()]
        else:
            params[key] = value
    return params
