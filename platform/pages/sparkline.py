"""Learning curves as a line of characters, on one scale for all trials of a sweep."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain

BLOCKS = "▁▂▃▄▅▆▇█"
BROKEN = "\N{MULTIPLICATION SIGN}"
"""Stands for a value that is not finite."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What the curves of a sweep have in common."""

    low: float
    high: float
    columns: dict[int, int]
    """Column by step."""


def scale_of(curves: Iterable[Mapping[int, float]], width: int = 16) -> Scale:
    """The scale on which curves, values by step, lie side by side in at most `width` columns."""
    curves = list(curves)
    finite = [value for curve in curves for value in curve.values() if math.isfinite(value)]
    steps = sorted(set(chain.from_iterable(curves)))
    return Scale(
        low=min(finite, default=0.0),
        high=max(finite, default=0.0),
        columns={step: place * min(width, len(steps)) // len(steps) for place, step in enumerate(steps)},
    )


def sparkline(curve: Mapping[int, float], scale: Scale) -> str:
    """A curve up to its newest step. A column shows the newest of its values, or that one of them is not finite."""
    drawn: dict[int, str] = {}
    for step in sorted(curve):
        column = scale.columns[step]
        if drawn.get(column) != BROKEN:
            drawn[column] = _block(curve[step], scale)
    return "".join(drawn.get(column, " ") for column in range(max(drawn, default=-1) + 1))


def _block(value: float, scale: Scale) -> str:
    if not math.isfinite(value):
        return BROKEN
    height = (value - scale.low) / (scale.high - scale.low) if scale.high > scale.low else 0.0
    return BLOCKS[min(int(height * len(BLOCKS)), len(BLOCKS) - 1)]
