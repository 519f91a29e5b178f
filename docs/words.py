"""Types and values of settings as who writes a spec would say and write them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, MinLen

from advseg.models.settings import Interval

_WORDS = {int: "whole number", float: "number", bool: "`true` or `false`", str: "text", Path: "path"}
_PATTERNS = {"^[a-z0-9][a-z0-9-]{1,62}$": "of 2 to 63 lower-case letters, digits and hyphens, with no hyphen first"}


def in_words(hint: Any) -> str:
    """What a key of this type may hold."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return " ".join([in_words(parts[0]), *filter(None, map(_rule, parts[1:]))])
    if origin is Literal:
        return _either(f"`{each}`" for each in parts)
    if origin is tuple:
        return f"{'list' if parts[-1] is Ellipsis else f'{len(parts)} values'}, each: {in_words(parts[0])}"
    if origin is dict:
        return f"mapping from {in_words(parts[0])} to {in_words(parts[1])}"
    if parts:
        # A whole number is a number.
        kinds = [each for each in parts if each is not type(None) and not (each is int and float in parts)]
        return _either(map(in_words, kinds)) + (", or `null`" if type(None) in parts else "")
    return _WORDS[hint]


def _rule(mark: Any) -> str:
    """What is said beside a type of its values."""
    match mark:
        case Interval():
            return str(mark).replace(f"{2**63:g}", "2^63")
        case Ge():
            return f"at least {mark.ge}"
        case Gt():
            return f"above {mark.gt}"
        case MinLen():
            return f"(at least {mark.min_length})"
        case _ if inner := getattr(mark, "metadata", None):
            # Of pydantic's Field.
            return " ".join(filter(None, map(_rule, inner)))
        case _:
            return _PATTERNS.get(getattr(mark, "pattern", ""), "")


def _either(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def as_yaml(value: Any) -> str:
    """A value in one line of YAML."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.4g}"
        case tuple() | list():
            return f"[{', '.join(map(as_yaml, value))}]"
        case Mapping():
            return f"{{{', '.join(f'{key}: {as_yaml(inner)}' for key, inner in value.items())}}}"
        case _:
            return str(value)
