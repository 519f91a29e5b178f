"""Settings that check themselves: frozen dataclasses whose fields state their range."""

import math
from dataclasses import dataclass, fields
from itertools import repeat
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Interval:
    """The range of a number, for `Annotated[float, Interval(0, 1)]`. Both ends belong to it unless said otherwise.

    It is written once, beside the field, and holds both for settings made in Python (`Settings`
    checks it) and for settings read from a spec (pydantic finds `__get_pydantic_core_schema__`).
    """

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'above' if self.open_low else 'at least'} {self.low:g}"
        return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"

    def check(self, value: float) -> float:
        """Return the value, or raise ValueError with the rule and the value."""
        above = self.low < value if self.open_low else self.low <= value
        below = value < self.high if self.open_high else value <= self.high
        if not (above and below and math.isfinite(value)):
            raise ValueError(f"must be {self}, but is {value}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))


@dataclass(frozen=True)
class ChosenBy:
    """Marks a union of settings classes that are told apart by a field, for `Annotated[A | B, ChosenBy("name")]`."""

    field: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic import Field

        return handler(Annotated[source, Field(discriminator=self.field)])


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings: fields of an `Interval` or `Literal` type, and tuples of them, are checked on creation."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):
            hint, value = hints[field.name], getattr(self, field.name)
            try:
                _check(hint, value)
            except ValueError as error:
                raise ValueError(f"{field.name} {error}") from None


def _check(hint: Any, value: Any) -> None:
    """Raise ValueError unless a value, or every element of a tuple, is in the range that its type states."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        for mark in parts[1:]:
            if isinstance(mark, Interval):
                mark.check(value)
    elif kind is Literal and value not in parts:
        raise ValueError(f"must be one of {', '.join(map(str, parts))}, but is {value}")
    elif kind in (Union, UnionType):
        # Beside None and settings, which have checked themselves, there is one alternative, or a list and another.
        if value is not None and not isinstance(value, Settings):
            fitting = (part for part in parts if (get_origin(part) is tuple) == isinstance(value, tuple))
            _check(next(fitting, parts[0]), value)
    elif kind is tuple:
        elements = repeat(parts[0]) if parts[-1] is Ellipsis else parts
        for element, inner in zip(elements, value, strict=False):
            _check(element, inner)
