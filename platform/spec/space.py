"""What a sweep may vary: any number, whole number or choice of a spec that determines a training's result."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ...trainers.moved import MOVED
from .dimensions import MOST_VALUES, Choices, Dimension, Range, Value
from .errors import MOST_TOLD, Problem, members_of, problems_of
from .spec import Spec, with_values
from .sweep import Grid, Sweep
from .workers import unfit_workers

_SECTIONS = ("model", "method", "trainer")
_NOT_VARIED = {
    "trainer.steps": "the trials of a sweep are compared step by step, so all make the same",
    "trainer.evaluate_every": "the trials of a sweep are compared step by step, so all report at the same",
    "trainer.save_every": "it does not determine a training's result",
    "trainer.collapse_patience": "it does not determine a training's result",
    "trainer.speed.prefetch": "it does not determine a training's result",
    "trainer.speed.workers": "it does not determine a training's result",
}
_ELSEWHERE = {"dataset": "all trials of a sweep learn from the same data"}
_TRIED = 64
"""Whole numbers of a range that are all tried in the spec; of more, and of other numbers, the ends alone."""


def searchable(document: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that a sweep may vary, with their types, as a spec's document chooses among them."""
    return {key: hint for key, hint in _leaves(document).items() if key not in _NOT_VARIED and _is_scalar(hint)}


def check_space(document: dict[str, Any], sweep: Sweep) -> tuple[Sweep, list[Problem]]:
    """The sweep with values of its keys' own types, and what is wrong with its space and first points.

    Ends and choices are put into the spec, which says of them what it would say of a value of its own.
    """
    known, problems, base = searchable(document), [], _Base.of(document)
    if not sweep.space:
        problems.append(Problem("sweep.space", "is empty: name at least one key, such as method.lambda_adv"))
    space: dict[str, Dimension] = {}
    for key, dimension in sweep.space.items():
        found = list(_problems_of_key(base, key, dimension, known))
        space[key] = dimension
        if key in known and not found:
            try:
                space[key] = _typed(dimension, known[key])
            except ValidationError as error:
                found = [Problem(f"sweep.space.{key}", problems_of(error, Spec, {})[0].text)]
        problems += found
    if isinstance(sweep.sampler, Grid) and (size := _grid_size(space, sweep.sampler.values)) > MOST_VALUES:
        text = f"makes {size:,} combinations, but a grid may have {MOST_VALUES:,}: lower it, or take another sampler"
        problems.append(Problem("sweep.sampler.values", text))
    first = tuple({key: _value(known.get(key, str), value) for key, value in point.items()} for point in sweep.first)
    unfit = chain.from_iterable(_unfit(point, space, f"sweep.first.{n}") for n, point in enumerate(first))
    problems += islice(unfit, MOST_TOLD)
    return (sweep if problems else sweep.model_copy(update={"space": space, "first": first})), problems


def _grid_size(space: Mapping[str, Dimension], values: int) -> int:
    """Combinations of a grid, at most."""
    return math.prod(
        len(d.choices) if isinstance(d, Choices) else min(values, d.count or values) for d in space.values()
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Base:
    """What the values of a sweep are put into, one at a time; validated once for all of them."""

    document: dict[str, Any]
    """As it is written."""
    training: dict[str, Any]
    """Without the sweep and, if that is valid, with every key: a rate can be set of a default optimizer."""
    problems: frozenset[Problem]
    """Of the training, whatever a sweep makes of it."""

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """The base of a spec's document."""
        training = {**{name: part for name, part in document.items() if name != "sweep"}, "job": "train"}
        # What is wrong with it is told of the spec itself.
        with suppress(ValidationError):
            training = Spec.model_validate(training).model_dump(mode="json")
        return cls(document=document, training=training, problems=frozenset(_problems(training)))


def _problems_of_key(base: _Base, key: str, dimension: Dimension, known: Mapping[str, Any]) -> Iterator[Problem]:
    if key not in known:
        yield _unknown(key, base.document, known)
    elif _has_sections(base.document, key.split(".")[:-1]):  # What stands in the place of one is told already.
        yield from _refused(base, key, dimension, known[key])


def _has_sections(document: Any, path: Sequence[str]) -> bool:
    """Whether a document has mappings along a path, as far as it goes."""
    for name in path:
        document = document.get(name, {})
        if not isinstance(document, Mapping):
            return False
    return True


def _leaves(document: Mapping[str, Any]) -> dict[str, Any]:
    """The types of all keys of the sections that determine a training's result, as the document chooses them."""
    hints = get_type_hints(Spec, include_extras=True)
    defaults = {name: field.default for name, field in Spec.model_fields.items()}
    return dict(
        chain.from_iterable(_below(name, hints[name], document.get(name), defaults[name]) for name in _SECTIONS)
    )


def _below(key: str, hint: Any, written: Any, default: Any) -> Iterator[tuple[str, Any]]:
    """The keys of the settings that a key holds: of the kind that is written, or else of the default; or the key.

    Of a key that may hold something else, too, they are where they are written.
    """
    members = members_of(hint)
    kinds = [kind for kind in members if dataclasses.is_dataclass(kind)]
    if not kinds or (len(kinds) < len(members) and not isinstance(written, Mapping)):
        yield key, hint
        return
    chosen = type(default) if type(default) in kinds else kinds[0]
    if isinstance(written, Mapping):
        chosen = next((kind for kind in kinds if _is_chosen(kind, written)), chosen)
    hints = get_type_hints(chosen, include_extras=True)
    for field in dataclasses.fields(chosen):
        inner = written.get(field.name) if isinstance(written, Mapping) else None
        yield from _below(f"{key}.{field.name}", hints[field.name], inner, field.default)


def _is_chosen(kind: Any, written: Mapping[str, Any]) -> bool:
    """Whether a field that names the kind of settings has a value of this kind."""
    return any(written.get(name) in get_args(hint) for name, hint in get_type_hints(kind).items() if get_args(hint))


def _is_scalar(hint: Any) -> bool:
    return all(member in (bool, int, float, type(None)) or get_origin(member) is Literal for member in members_of(hint))


def _is_number(hint: Any) -> bool:
    return any(member in (int, float) for member in members_of(hint))


def _unknown(key: str, document: Mapping[str, Any], known: Iterable[str]) -> Problem:
    where = f"sweep.space.{key}"
    if key in MOVED:
        return Problem("sweep.space", f"{key} is {MOVED[key]} now")
    if key in _NOT_VARIED:
        return Problem(where, f"cannot be varied: {_NOT_VARIED[key]}")
    section = key.partition(".")[0]
    if section in _ELSEWHERE:
        return Problem(where, f"cannot be varied: {_ELSEWHERE[section]}")
    if section in Spec.model_fields and section not in _SECTIONS:
        return Problem(where, f"cannot be varied: {section} does not determine a training's result")
    leaves = _leaves(document)
    if key in leaves:
        return Problem(where, "cannot be varied: it is neither a number nor a choice")
    if own := [leaf for leaf in leaves if leaf.startswith(f"{key}.")]:
        return Problem(where, f"cannot be varied: it holds keys of its own, such as {own[0]}")
    if (outer := key.rpartition(".")[0]) in leaves and any(map(dataclasses.is_dataclass, members_of(leaves[outer]))):
        return Problem(where, f"cannot be varied: {outer} is no mapping here: write its keys there first")
    return Problem.unknown(where, known)


def _refused(base: _Base, key: str, dimension: Dimension, hint: Any) -> Iterator[Problem]:
    """The first thing that the spec says of each value that a sweep may give a key, told once."""
    where = f"sweep.space.{key}"
    if isinstance(dimension, Range) and not _is_number(hint):
        yield Problem(where, "has no range: name its values, as in {choices: [...]}")
        return
    told: set[str] = set()
    for end, value in _tried(dimension):
        if told and not end:
            break
        problem = next((p for p in _problems(with_values(base.training, {key: value})) if p not in base.problems), None)
        if problem and problem.text not in told:
            told.add(problem.text)
            own = problem.key in (key, "")
            yield Problem(f"{where}{end}", problem.text if own else f"with {value}, {problem}")
    if isinstance(dimension, Range) and dimension.step is not None and int in members_of(hint) and dimension.step % 1:
        yield Problem(f"{where}.step", f"must be a whole number, but is {dimension.step}")


def _tried(dimension: Dimension) -> Iterator[tuple[str, Value]]:
    """Values of a dimension, and what names them below its key."""
    if isinstance(dimension, Choices):
        yield from ((f".choices.{number}", choice) for number, choice in enumerate(dimension.choices))
        return
    yield from ((".low", dimension.low), (".high", dimension.high))
    if dimension.whole and dimension.count is not None and dimension.count <= _TRIED:
        yield from (("", dimension.low + place * (dimension.spacing or 1)) for place in range(1, dimension.count - 1))


def _problems(document: dict[str, Any]) -> list[Problem]:
    try:
        spec = Spec.model_validate(document)
    except ValidationError as error:
        return problems_of(error, Spec, document)
    return list(unfit_workers(spec, in_sweep=True))


def _typed(dimension: Dimension, hint: Any) -> Dimension:
    """A dimension with values of a key's own type: 1 is 1.0 to a key that holds any number."""
    if isinstance(dimension, Choices):
        return Choices(choices=tuple(_value(hint, choice) for choice in dimension.choices))
    step = None if dimension.step is None else _value(hint, dimension.step)
    return Range(low=_value(hint, dimension.low), high=_value(hint, dimension.high), log=dimension.log, step=step)


def _value(hint: Any, value: Value) -> Any:
    """A value in the type of a key: 1 becomes 1.0 where any number may stand, and 1e-3, a text to YAML, a number."""
    kind = next((member for member in members_of(hint) if member in (int, float)), None)
    if kind is None or value is None or isinstance(value, bool):
        return value
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return value


def _unfit(point: Mapping[str, Value], space: Mapping[str, Dimension], where: str) -> Iterator[Problem]:
    for key, value in point.items():
        if key in MOVED:
            yield Problem(where, f"{key} is {MOVED[key]} now")
        elif key not in space:
            yield Problem.unknown(f"{where}.{key}", space)
        elif value not in space[key]:
            rule = "be one of its choices" if isinstance(space[key], Choices) else "lie in the key's range"
            yield Problem(f"{where}.{key}", f"must {rule} in the space, but is {value}")
    for key in space.keys() - point.keys() - {old for old, new in MOVED.items() if new in point or old in point}:
        yield Problem(where, f"lacks a value for {key}")
