"""What a job spec says that a sweep may try for one key: a range of numbers, or choices."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, Tag, model_validator

from ...trainers.errors import brief
from .section import Section

Value = bool | int | float | str | None
"""What a sweep may give a key."""
MOST_KEYS = 64
"""That a sweep may vary."""
MOST_CHOICES = 1000
"""Of one key."""
MOST_VALUES = 1_000_000
"""Of a range with a step, and combinations of a grid."""
_LARGEST = 2**63


class Range(Section):
    """Numbers that a sweep may try for one key; whole numbers alone if the key holds such."""

    low: int | float
    """Least value."""
    high: int | float
    """Greatest value."""
    log: bool = False
    """Draw uniformly in the logarithm; the range must then lie above 0."""
    step: Annotated[int | float, Field(gt=0)] | None = None
    """Distance between the values, from `low` to `high`; by default 1 for whole numbers, and none for others."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if any(isinstance(end, int) and abs(end) >= _LARGEST for end in (self.low, self.high)):
            raise ValueError("low and high must lie within 2**63, as no computer's whole numbers are larger")
        if not self.low < self.high:
            raise ValueError(f"low must be below high, but low is {self.low} and high is {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range must lie above 0, but low is {self.low}")
        if self.step is not None:
            if self.log:
                raise ValueError(f"a logarithmic range takes no step, but step is {self.step}: remove either")
            intervals = (self.high - self.low) / self.step
            divides = math.isfinite(intervals) and math.isclose(intervals, round(intervals), rel_tol=1e-9)
            if not divides or round(intervals) < 1:
                raise ValueError(f"step must divide high - low, {self.high - self.low:g}, but is {self.step:g}")
            if intervals > MOST_VALUES:
                raise ValueError(f"step must make at most {MOST_VALUES:,} values, but {self.step:g} makes more")
        return self

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def spacing(self) -> int | float | None:
        """Distance between the values; None if any value between the ends may be tried."""
        return 1 if self.step is None and self.whole and not self.log else self.step

    @property
    def count(self) -> int | None:
        """How many values there are; None if they are not evenly spaced."""
        return None if self.spacing is None else round((self.high - self.low) / self.spacing) + 1

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.spacing is None:
            return not self.whole or isinstance(value, int)
        place = (value - self.low) / self.spacing
        return math.isclose(place, round(place), rel_tol=1e-9, abs_tol=1e-9)


class Choices(Section):
    """Values that a sweep may try for one key, in no order."""

    choices: Annotated[tuple[Value, ...], Field(min_length=1, max_length=MOST_CHOICES)]

    @model_validator(mode="before")
    @classmethod
    def _alone(cls, written: Any) -> Any:
        if isinstance(written, Mapping) and (ends := [key for key in Range.model_fields if key in written]):
            raise ValueError(f"takes no {' and '.join(ends)} beside it, as it is no range: remove either")
        return written

    @model_validator(mode="after")
    def _different(self) -> Self:
        seen = {(type(choice), choice) for choice in self.choices}
        if len(seen) < len(self.choices):
            raise ValueError(f"choices must differ, but are {brief(', '.join(map(str, self.choices)))}")
        return self

    def __contains__(self, value: object) -> bool:
        return (type(value), value) in {(type(choice), choice) for choice in self.choices}


def _kind(dimension: Any) -> str:
    names = isinstance(dimension, Choices) or (isinstance(dimension, Mapping) and "choices" in dimension)
    return "choices" if names else "range"


Dimension = Annotated[Annotated[Range, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_kind)]
"""What a sweep may try for one key."""
DIMENSION_KEYS = (*Range.model_fields, *Choices.model_fields)
