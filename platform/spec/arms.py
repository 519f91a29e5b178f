"""The arms of a sweep as they are written: each method is made whole, and each space is checked by its own."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

from .errors import Problem
from .paths import section_of
from .presets import apply_preset
from .space import check_space
from .sweep import Sweep


def complete_arms(document: dict[str, Any]) -> None:
    """Give the method of each arm what it leaves out: of the spec's section where that is of its name, and a preset's.

    The spec's own section has its name.
    """
    own = document.get("method")
    if not isinstance(own, Mapping):
        return  # What stands in its place is told already.
    for arm in section_of(section_of(document, "sweep"), "arms").values():
        if isinstance(arm, dict) and isinstance(written := arm.get("method", {}), Mapping):
            same = written.get("name", own["name"]) == own["name"]
            whole = {**document, "method": _merged(own, written) if same else deepcopy(dict(written))}
            apply_preset(whole)
            arm["method"] = whole["method"]


def _merged(own: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    """One mapping over another, and so those in it, unless their kinds differ."""
    merged = deepcopy(dict(own))
    for key, value in written.items():
        before, over = merged.get(key), deepcopy(value)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            over = _merged(before, value) if value.get("name", before.get("name")) == before.get("name") else over
        merged[key] = over
    return merged


def check_arms(document: dict[str, Any], sweep: Sweep) -> tuple[Sweep, list[Problem]]:
    """The sweep with values of its keys' own types, and what is wrong with its spaces and first points."""
    if not sweep.arms:
        return check_space(document, sweep)
    arms, problems = dict(sweep.arms), []
    for name, arm in sweep.arms.items():
        written = document["sweep"]["arms"][name]["method"]
        own, found = check_space({**document, "method": written}, sweep.of_arm(name))
        arms[name] = arm.model_copy(update={"space": own.space, "first": own.first})
        problems += [replace(each, key=_of_arm(each.key, name)) for each in found]
    return sweep.model_copy(update={"arms": arms}), problems


def _of_arm(key: str, arm: str) -> str:
    """A key of the section sweep as the arm has it."""
    section, _, rest = key.removeprefix("sweep.").partition(".")
    return f"sweep.arms.{arm}.{section}{rest and f'.{rest}'}" if section in ("space", "first") else key
