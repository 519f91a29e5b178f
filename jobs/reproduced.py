"""A registered model beside the one that was trained again: what is equal, and of what a difference may be."""

from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from ..platform.base.environment import Environment
from ..platform.base.keys import METRIC
from ..platform.pages.console import words
from ..trainers.errors import NotReproducedError

_ALWAYS = (METRIC, "val/pixel_accuracy", "val/class_accuracy")
"""Figures that are shown also where they are equal."""
_DIGITS = 12
_MOST = 20
"""Differing figures that are shown."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A model beside the one that was trained again."""

    model: str
    folder: Path
    metrics: dict[str, tuple[float, float | None]]
    """Each figure, as recorded and as it came out here; None if it did not."""
    weights: dict[str, tuple[str, str | None]]
    """The SHA-256 of each file of weights, likewise."""
    then: Environment
    here: Environment
    unknown: tuple[str, ...] = ()
    """What the registry does not know of then."""

    @property
    def differing(self) -> list[str]:
        """The names of figures and files that are not equal to the bit."""
        figures = [name for name, pair in self.metrics.items() if not _is_same(*pair)]
        return [*figures, *(name for name, (then, here) in self.weights.items() if then != here)]

    @property
    def environment(self) -> dict[str, tuple[Any, Any]]:
        """What is known to be other than then."""
        return self.then.differences(self.here)


def refuse_differing(compared: Compared) -> str:
    """That a model is reproduced, in words. Raises NotReproducedError, with what differs and of what it may be."""
    count = f"{_count(compared.metrics, 'figure')} and {_count(compared.weights, 'file')} of weights"
    if not (differing := compared.differing):
        return f"{compared.model} is reproduced to the bit: {count} are equal"
    if compared.environment:
        pairs = compared.environment.items()
        why = "it may be of " + ", ".join(f"{name} ({then} then, {now} here)" for name, (then, now) in pairs)
    elif compared.unknown:
        why = f"it may be of what is not known: {', '.join(compared.unknown)}"
    else:
        why = "though code, torch, hardware, workers and threads are those of then"
    shown = ", ".join(differing[:3]) + (", ..." if differing[3:] else "")
    raise NotReproducedError(f"{compared.model} is not reproduced: of {count} {len(differing)} differ ({shown}); {why}")


def page(compared: Compared) -> Table:
    """The figures that count, and all that differ, for the terminal."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("", "recorded", "here", ""):
        table.add_column(heading, no_wrap=True)
    differing = set(compared.differing)
    figures = [name for name in compared.metrics if name in _ALWAYS or name in differing]
    for name in figures[:_MOST]:
        then, here = compared.metrics[name]
        table.add_row(words(name), repr(then), "-" if here is None else repr(here), _verdict(name in differing))
    for name, (then, here) in compared.weights.items():
        table.add_row(words(name), then[:_DIGITS], (here or "-")[:_DIGITS], _verdict(name in differing))
    return table


def compared_json(compared: Compared) -> dict[str, Any]:
    """What was compared; figures that begin with `val/` are in percent."""

    def pairs(found: dict[str, tuple[Any, Any]]) -> dict[str, dict[str, Any]]:
        return {name: {"recorded": then, "here": here} for name, (then, here) in found.items()}

    return {
        "model": compared.model,
        "reproduced": not compared.differing,
        "differing": compared.differing,
        "metrics": pairs(compared.metrics),
        "weights": pairs(compared.weights),
        "environment": pairs(compared.environment),
        "unknown": compared.unknown,
        "folder": str(compared.folder),
    }


def _count(things: Sized, kind: str) -> str:
    return f"{len(things)} {kind}{'' if len(things) == 1 else 's'}"


def _verdict(differs: bool) -> str:
    return "differs" if differs else "equal"


def _is_same(one: float, other: float | None) -> bool:
    return one == other or (one != one and other is not None and other != other)
