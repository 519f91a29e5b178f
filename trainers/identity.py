"""What a checkpoint must share with the run that resumes from it."""

import json
from dataclasses import asdict
from functools import reduce
from typing import Any

from ..models.settings import Settings
from .data.dataset import Dataset
from .data.streams import DRAWS
from .differences import differences
from .moved import moves, without_gone

_CAME_LATER = {"adversarial": {"discriminator_sees_void": True}}
"""By the method's name, settings that older checkpoints do not have, with the values by which they were trained."""
_UNSET: dict[str, Any] = {
    "class_weights": None,
    "evaluation.images": None,
    "ohem": None,
    "save_every": None,
    "schedule": "poly",
    "speed.graphs": False,
    "speed.workers": 0,
    "unlabelled_batch_size": None,
    "warmup_steps": 0,
}
"""Settings of a trainer that came later, with the values by which nothing is other than before."""


def identity_of(recipe: Settings, dataset: Dataset) -> dict[str, Any]:
    """All that determines the weights at the end, as JSON."""
    data = {"classes": len(dataset.classes), "digest": dataset.digest, "draws": DRAWS}
    identity = json.loads(json.dumps({"dataset": data, **asdict(recipe)}))
    # A run that it stopped is one that may go on with more of it.
    del identity["trainer"]["collapse_patience"]
    del identity["trainer"]["save_every"]
    for key in ("prefetch", "workers"):
        del identity["trainer"]["speed"][key]
    drop_unset(identity["trainer"])
    return identity


def drop_unset(trainer: dict[str, Any]) -> None:
    """Take away what came later than others and is not used, so that identities of before stay what they are."""
    for key, unset in _UNSET.items():
        *path, name = key.split(".")
        section = reduce(dict[str, Any].__getitem__, path, trainer)
        if section.get(name, unset) == unset:
            section.pop(name, None)


def refusal(ours: dict[str, Any], theirs: dict[str, Any], *, any_accumulation: bool) -> str | None:
    """Why a run of an identity cannot take up a checkpoint of another, and a remedy, in one line; None if it can.

    Its steps may have grown; with `any_accumulation` it may divide its batches otherwise.
    """
    if moved := moves(theirs):
        return f"is of an older version of advseg: {', '.join(moved)}: go on with the version that wrote it"
    theirs = without_gone(theirs)
    method = theirs["method"]
    theirs = {**theirs, "method": {**_CAME_LATER.get(method["name"], {}), **method}}
    if theirs["trainer"]["steps"] < ours["trainer"]["steps"]:
        theirs = {**theirs, "trainer": {**theirs["trainer"], "steps": ours["trainer"]["steps"]}}
    if any_accumulation:
        theirs = {**theirs, "trainer": {**theirs["trainer"], "accumulation": ours["trainer"]["accumulation"]}}
    if differing := differences(ours, theirs):
        changed = ours["dataset"]["digest"] != theirs["dataset"]["digest"]
        told = "; the digest is of images, masks, lists, classes.yaml and how they are read, of which something changed"
        return f"belongs to other settings or data than this run's: {differing}{told if changed else ''}: restore them"
    return None
