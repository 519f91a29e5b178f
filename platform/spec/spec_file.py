"""Reading a job spec from its YAML file: all of it is validated before anything starts."""

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ...models.regular_file import read_regular
from ...trainers.bounded_yaml import YamlError, read_yaml
from ...trainers.errors import UserError, brief
from .arms import check_arms, complete_arms
from .dimensions import DIMENSION_KEYS, MOST_KEYS, Dimension
from .errors import MOST_TOLD, Problem, problems_of
from .packed import packed_resize, unfit_sizes
from .paths import anchor, missing_files, section_of, unfit_paths
from .presets import apply_preset, unfit_preset, usual_method
from .pruning import unfit_pruner
from .short_forms import spell_out
from .space import check_space
from .spec import Spec
from .sweep import Sweep
from .workers import unfit_workers

SPACE = re.compile(r"sweep\.(arms\.[^.]+\.)?space\.")
_DEEPEST_KEY = 16
"""Parts of a key in `--set`; no key of a spec has so many."""
_DIMENSION = TypeAdapter(Dimension)


class SpecError(UserError):
    """All that is wrong with a spec, a line for each problem."""


def load_spec(path: Path, overrides: Iterable[str] = (), *, files_elsewhere: bool = False) -> Spec:
    """Read and validate a spec with `key=value` overrides.

    Paths in the file are relative to the file's folder, paths in overrides to the working folder; with
    `files_elsewhere` what they name need not be on this machine.
    Raises SpecError that lists every problem with its key.
    """
    document = read_document(path)
    anchor(document, Path(os.path.realpath(path)).parent)
    override_keys(document, overrides)
    return parse_spec(document, source=str(path), files_elsewhere=files_elsewhere)


def override_keys(document: dict[str, Any], overrides: Iterable[str]) -> None:
    """Set keys of a document, which has absolute paths, by `key=value`; paths are relative to the working folder.

    What stands for a section in one word is spelt out, so that a key of it can be set.

    Raises SpecError for what is no override.
    """
    spell_out(document)
    for override in overrides:
        key, equals, text = override.partition("=")
        names, told = [name.strip() for name in key.split(".")], brief(override)
        if not equals or not all(names):
            raise SpecError(f"--set {told} must have the form key=value, as in --set method.lambda_adv=0.02")
        if len(names) > _DEEPEST_KEY:
            raise SpecError(f"--set {told} names a key of {len(names)} parts, but no key has more than {_DEEPEST_KEY}")
        try:
            _set(document, ".".join(names), read_yaml(text))
            spell_out(document)
        except YamlError as error:
            raise SpecError(f"--set {told} has a value that is not YAML: {error}") from None
    anchor(document, Path.cwd())


def read_document(path: Path) -> dict[str, Any]:
    """What a spec file says, not validated. Raises SpecError if it is no YAML mapping."""
    try:
        if path.is_dir():
            inside = sorted(file.name for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
            raise SpecError(f"spec {path} is a folder: name a YAML file{f' in it, as {inside[0]}' if inside else ''}")
        document = read_yaml(read_regular(path).decode())
    except FileNotFoundError:
        raise SpecError(f"spec {path} does not exist") from None
    except OSError as error:
        raise SpecError(f"spec {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, YamlError) as error:
        raise SpecError(f"spec {path} cannot be read: {error}") from None
    if not isinstance(document, dict):
        kind = "is empty" if document is None else f"is a {type(document).__name__}"
        raise SpecError(f"spec {path} must be a YAML mapping of keys to values, but {kind}")
    return document


def parse_spec(document: dict[str, Any], *, source: str, files_elsewhere: bool = False) -> Spec:
    """Validate what was read from `source`; `files_elsewhere` as for `load_spec`.

    Raises SpecError that lists every problem with its key.
    """
    problems: list[Problem] = []
    spec = None
    if isinstance(method := document.setdefault("method", {}), dict):
        # As `--set method.lambda_adv=0.02` says of a spec without the section.
        method.setdefault("name", usual_method(document))
    apply_preset(document)
    problems += unfit_preset(document)
    complete_arms(document)
    try:
        spec = Spec.model_validate(document)
    except ValidationError as error:
        problems += problems_of(error, Spec, document)
    problems += unfit_paths(document)
    if not files_elsewhere:
        problems += missing_files(document)
    # Checked even where other sections and keys are wrong, so that all problems are told at once.
    if sweep := _valid_sweep(document):
        sweep, found = check_arms(document, sweep)
        problems += found
    elif sound := _sound_space(document):
        problems += check_space(document, Sweep(trials=1, space=sound))[1]
    if spec:
        spec = spec.model_copy(update={"sweep": sweep})
        problems += unfit_workers(spec, in_sweep=spec.sweep is not None)
        problems += unfit_pruner(spec)
        if not files_elsewhere:
            problems += unfit_sizes(spec, packed_resize(spec))
    if problems or spec is None:
        raise SpecError(_listed(problems, source))
    return spec


def _listed(problems: Sequence[Problem], source: str) -> str:
    """Problems, a line each below a head; only the first of very many."""
    head = f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in {source}:"
    if len(problems) >= MOST_TOLD:
        head = f"{MOST_TOLD} problems or more in {source}, of which the first:"
    return "\n".join([head, *(f"  {problem}" for problem in problems[:MOST_TOLD])])


def _valid_sweep(document: dict[str, Any]) -> Sweep | None:
    """The section sweep if it is valid in itself."""
    try:
        return Sweep.model_validate(document.get("sweep"))
    except ValidationError:
        return None


def _sound_space(document: dict[str, Any]) -> dict[str, Dimension]:
    """What is valid in itself of a sweep's space, where something else in the section sweep is not."""
    sound: dict[str, Dimension] = {}
    for key, dimension in islice(section_of(section_of(document, "sweep"), "space").items(), MOST_KEYS):
        with suppress(ValidationError):
            sound[key] = _DIMENSION.validate_python(dimension)
    return sound


def _set(document: dict[str, Any], key: str, value: Any, where: str = "") -> None:
    """Set a dotted key of nested mappings, making those that are missing. Keys that hold dots are met whole."""
    for name in sorted((name for name in document if isinstance(name, str)), key=len, reverse=True):
        if key.startswith(f"{name}.") and isinstance(document[name], dict):
            return _set(document[name], key.removeprefix(f"{name}."), value, f"{where}{name}.")
    if SPACE.fullmatch(where) and key not in document:
        # What is below it is one key of the spec and then, perhaps, one of its range.
        name, dot, rest = key.rpartition(".") if key.rpartition(".")[2] in DIMENSION_KEYS else (key, "", "")
    else:
        name, dot, rest = key.partition(".")
    if key in document or not dot:
        document[key] = value
        return None
    document[name] = {}
    return _set(document[name], rest, value, f"{where}{name}.")
