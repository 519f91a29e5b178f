"""What is wrong with a spec, in words: the key, the rule, the value, and the nearest valid name."""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ...trainers.errors import brief
from ...trainers.moved import GONE, MOVED

_RULES = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "path_type": "must be a path",
    "invalid_key": "keys must be texts",
    "dict_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "dataclass_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "string_pattern_mismatch": "must be 2 to 63 lower-case letters, digits and hyphens, starting with no hyphen",
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "too_long": "must have at most {max_length} values",
    "too_short": "must have at least {min_length} value",
    "literal_error": "must be {expected}",
}

_ANOTHER_KIND = ("tuple_type", "dataclass_type", "literal_error")
"""What a member of a union says of a value that is for another one."""
_MISSING = ("missing", "missing_argument", "missing_keyword_only_argument")
_QUOTES = "'"
MOST_TOLD = 50
"""Problems of a spec that are put into words: who mends these sees the others next."""
_NAMES = 12
"""Known names that are listed where none is near."""
_KEY, _TEXT, _SHOWN = 200, 800, 100
"""Characters of a key, of what is wrong with it, and of a value in that."""


@dataclass(frozen=True)
class Problem:
    """One problem: where it is and what is wrong."""

    key: str
    text: str

    def __str__(self) -> str:
        text = brief(self.text, _TEXT)
        return f"{brief(self.key, _KEY)}: {text}" if self.key else text

    @classmethod
    def unknown(cls, key: str, known: Iterable[str]) -> "Problem":
        """A key that does not exist, with the nearest one that does."""
        known = sorted(known)
        # A known name may itself hold dots (`method.lambda_adv`), so compare with as many parts as it has.
        asked = key.rsplit(".", maxsplit=1)[-1]
        if any("." in name for name in known):
            asked = key.split(".", maxsplit=key.count(".") - 1)[-1]
        near = difflib.get_close_matches(brief(asked).lower(), known, n=1)
        more = f" and {len(known) - _NAMES} more" if len(known) > _NAMES else ""
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known[:_NAMES])}{more}"
        return cls(key, f"unknown key; {hint}")


def problems_of(error: ValidationError, model: type[BaseModel], document: Any) -> list[Problem]:
    """The first problems in the validation error of `model` for a document."""
    details = error.errors()[:MOST_TOLD]
    within = {detail["loc"][:-2] for detail in details}
    # Values that are wrong in themselves leave too few of them.
    told = [detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in within]
    located = [(_key_of(detail, document), detail) for detail in told]
    problems: list[Problem] = []
    for key, found in groupby(_of_the_kind_given(located), key=itemgetter(0)):
        details = [detail for _, detail in found]
        if all(detail["type"] in _RULES for detail in details):
            problems.append(_broken_rule(key, details))
        else:
            problems += [_problem_of(key, detail, model) for detail in details]
    return problems


def _of_the_kind_given(located: Sequence[tuple[str, ErrorDetails]]) -> Iterator[tuple[str, ErrorDetails]]:
    """Without what is said of a value's kind where another member of its union takes that kind, and says more."""
    known = [key for key, detail in located if detail["type"] not in _ANOTHER_KIND]
    for key, detail in located:
        if detail["type"] not in _ANOTHER_KIND or not any(f"{each}.".startswith(f"{key}.") for each in known):
            yield key, detail


def _key_of(detail: ErrorDetails, document: Any) -> str:
    return ".".join(_keys(detail["loc"], document, lacks_last=detail["type"] in _MISSING))


def _broken_rule(key: str, details: Sequence[ErrorDetails]) -> Problem:
    """That a value is none that its key takes; each member of a union says so in its own words."""
    rules = dict.fromkeys(_RULES[detail["type"]].format(**detail.get("ctx", {})) for detail in details)
    rule = " or ".join(rules).replace(" or must be ", " or ")
    value = details[0]["input"]
    return Problem(key, rule if isinstance(value, dict) else f"{rule}, but is {_shown(value)}")


def _problem_of(key: str, detail: ErrorDetails, model: type[BaseModel]) -> Problem:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument" if key in MOVED:
            return Problem("", f"{key} is {MOVED[key]} now")
        case "extra_forbidden" | "unexpected_keyword_argument" if key in GONE:
            return Problem(key, f"is gone: {GONE[key][1]}")
        case "extra_forbidden" | "unexpected_keyword_argument":
            return Problem.unknown(key, _fields_at(model, detail["loc"][:-1]))
        case kind if kind in _MISSING:
            return Problem(key, "is missing: add it")
        case "union_tag_invalid":
            return _unknown_tag(key, **context)
        case "union_tag_not_found":
            return Problem(f"{key}.{context['discriminator'].strip(_QUOTES)}", "is missing: add it")
        case "value_error":
            return Problem(key, str(context["error"]))
        case kind if kind in _RULES:
            return _broken_rule(key, [detail])
    return Problem(key, f"{detail['msg']}, but is {_shown(detail['input'])}")


def _shown(value: Any) -> str:
    return brief(repr(value), _SHOWN)


def _unknown_tag(key: str, discriminator: str, tag: str, expected_tags: str) -> Problem:
    """A name that chooses no member of a union, with the nearest one that does."""
    known = [known.strip(_QUOTES) for known in expected_tags.split(", ")]
    near = difflib.get_close_matches(brief(tag).lower(), known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return Problem(
        f"{key}.{discriminator.strip(_QUOTES)}", f"must be one of {expected_tags}, but is {_shown(tag)}{hint}"
    )


def _keys(location: tuple[int | str, ...], document: Any, *, lacks_last: bool) -> list[str]:
    """The parts of pydantic's location that are keys of the document; the others name members of unions.

    The last part is a key also if the document lacks it and is to be told so.
    """
    keys = []
    for index, part in enumerate(location):
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part in range(len(document)):
            document = document[int(part)]
        elif not (lacks_last and index == len(location) - 1):
            continue
        keys.append(str(part))
    return keys


def _fields_at(kind: Any, location: tuple[int | str, ...]) -> list[str]:
    """The names that a mapping at a location of pydantic's may hold."""
    for part in location:
        kind = _child(kind, part)
    return list(_hints(kind))


def _child(kind: Any, part: int | str) -> Any:
    """The type one step further: a field's, an item's, or the member of a union that a tag or its name chooses."""
    members = [member for member in members_of(kind) if member is not type(None)]
    if called := [member for member in members if getattr(member, "__name__", None) == part]:
        return called[0]
    if named := [member for member in _tagged(kind) if part in member.__metadata__]:
        return members_of(named[0])[0]
    for member in members:
        hints = _hints(member)
        if len(members) > 1 and any(part in get_args(hint) for hint in hints.values()):
            return member
        if part in hints:
            return hints[str(part)]
        if get_origin(member) in (dict, tuple):
            return next(arg for arg in reversed(get_args(member)) if arg is not Ellipsis)
    return members[0]


def _tagged(kind: Any) -> list[Any]:
    """The members of a union that carry a tag."""
    if get_origin(kind) is Annotated:
        return _tagged(get_args(kind)[0])
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else ()
    return [part for part in parts if get_origin(part) is Annotated]


def members_of(kind: Any) -> list[Any]:
    """The types of a union, without what they are annotated with; of any other type that alone."""
    if get_origin(kind) is Annotated:
        return members_of(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return [member for part in get_args(kind) for member in members_of(part)]
    return [kind]


def _hints(kind: Any) -> dict[str, Any]:
    kind = members_of(kind)[0]
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        names = set(kind.model_fields)
    elif dataclasses.is_dataclass(kind):
        names = {field.name for field in dataclasses.fields(kind)}
    else:
        return {}
    return {name: hint for name, hint in get_type_hints(kind).items() if name in names}
