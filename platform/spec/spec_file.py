"""Reading a job spec from its YAML file: all of it is validated before anything starts."""

from collections.abc import Hashable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from ...trainers.data.layouts import TREES
from ...trainers.data.lists import is_list_file
from ...trainers.errors import UserError
from ..base.keys import S3
from .errors import Problem, problems_of
from .presets import apply_preset
from .space import check_space
from .spec import Spec
from .sweep import DIMENSION_KEYS, Dimension, Sweep
from .workers import unfit_workers

SPACE = "sweep.space."


class SpecError(UserError):
    """All that is wrong with a spec, a line for each problem."""


def load_spec(path: Path, overrides: Iterable[str] = ()) -> Spec:
    """Read and validate a spec with `key=value` overrides.

    Paths in the file are relative to the file's folder, paths in overrides to the working folder.
    Raises SpecError that lists every problem with its key.
    """
    document = read_document(path)
    _anchor(document, path.resolve().parent)
    for override in overrides:
        key, equals, text = override.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names):
            raise SpecError(f"--set {override} must have the form key=value, as in --set method.lambda_adv=0.02")
        try:
            _set(document, ".".join(names), _read_yaml(text))
        except yaml.YAMLError as error:
            raise SpecError(f"--set {override} has a value that is not YAML: {_one_line(error)}") from None
    _anchor(document, Path.cwd())
    return parse_spec(document, source=str(path))


def read_document(path: Path) -> dict[str, Any]:
    """What a spec file says, not validated. Raises SpecError if it is no YAML mapping."""
    try:
        document = _read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"spec {path} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"spec {path} cannot be read: {_one_line(error)}") from None
    if not isinstance(document, dict):
        kind = "is empty" if document is None else f"is a {type(document).__name__}"
        raise SpecError(f"spec {path} must be a YAML mapping of keys to values, but {kind}")
    return document


class _Loader(yaml.SafeLoader):
    """YAML without code, in which a key that is given twice is an error: the first value would be lost unseen."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node, whose own keys all differ."""
        seen: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            # `<<` brings in the keys of another mapping, which this one's own may replace.
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                key, line = self.construct_object(key_node), key_node.start_mark.line + 1
                if key in seen:
                    raise yaml.YAMLError(f"key {key} is given twice, on lines {seen[key]} and {line}: remove one")
                seen[key] = line
        return super().construct_mapping(node, deep)


def _read_yaml(text: str) -> Any:
    try:
        # The loader is a SafeLoader.
        return yaml.load(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except ValueError as error:
        # Of what looks like a number or a date but is none, such as 2026-02-30.
        raise yaml.YAMLError(str(error)) from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def parse_spec(document: dict[str, Any], *, source: str) -> Spec:
    """Validate what was read from `source`. Raises SpecError that lists every problem with its key."""
    problems: list[Problem] = []
    spec = None
    if isinstance(method := document.setdefault("method", {}), dict):
        # As `--set method.lambda_adv=0.02` says of a spec without the section.
        method.setdefault("name", "adversarial")
    apply_preset(document)
    try:
        spec = Spec.model_validate(document)
    except ValidationError as error:
        problems += problems_of(error, Spec, document)
    problems += _missing_files(document)
    # Checked even where other sections and keys are wrong, so that all problems are told at once.
    if sweep := _valid_sweep(document):
        sweep, found = check_space(document, sweep)
        problems += found
    elif sound := _sound_space(document):
        problems += check_space(document, Sweep(trials=1, space=sound))[1]
    if spec:
        spec = spec.model_copy(update={"sweep": sweep})
        problems += unfit_workers(spec)
    if problems or spec is None:
        lines = [str(problem) for problem in problems]
        head = f"{len(lines)} problem{'s' if len(lines) > 1 else ''} in {source}:"
        raise SpecError("\n".join([head, *(f"  {line}" for line in lines)]))
    return spec


def _valid_sweep(document: dict[str, Any]) -> Sweep | None:
    """The section sweep if it is valid in itself."""
    try:
        return Sweep.model_validate(document.get("sweep"))
    except ValidationError:
        return None


def _sound_space(document: dict[str, Any]) -> dict[str, Dimension]:
    """What is valid in itself of a sweep's space, where something else in the section sweep is not."""
    sound: dict[str, Dimension] = {}
    for key, dimension in _section(_section(document, "sweep"), "space").items():
        with suppress(ValidationError):
            sound[key] = TypeAdapter(Dimension).validate_python(dimension)
    return sound


def _missing_files(document: dict[str, Any]) -> Iterable[Problem]:
    dataset = _section(document, "dataset")
    root, tree = dataset.get("root"), TREES.get(str(dataset.get("layout", "voc")), "the dataset")
    pack = dataset.get("pack")
    if isinstance(pack, str):
        if not Path(pack).is_dir():
            remedy = "write it by `advseg data pack`, or remove the key to read the images of dataset.root"
            yield Problem("dataset.pack", f"folder {pack} does not exist: {remedy}")
    elif isinstance(root, str) and not Path(root).is_dir():
        yield Problem("dataset.root", f"folder {root} does not exist: put {tree} there, or name where it lies")
    weights = _section(document, "model").get("weights")
    if isinstance(weights, str) and not weights.startswith(S3) and not Path(weights).exists():
        yield Problem("model.weights", f"file {weights} does not exist: put the start weights there or name theirs")


def _anchor(document: dict[str, Any], folder: Path) -> None:
    """Make the paths of a document absolute; those that are already stay, and so do names of lists and addresses."""
    dataset, model = _section(document, "dataset"), _section(document, "model")
    lists = [(dataset, key) for key in ("labelled", "unlabelled", "validation", "order")]
    places = [(dataset, "root"), (dataset, "pack"), (document, "storage"), (model, "weights")]
    places += [(section, key) for section, key in lists if is_list_file(str(section.get(key)))]
    for section, key in places:
        path = section.get(key)
        if isinstance(path, str) and not path.startswith(S3):
            if path == "~" or path.startswith("~/"):
                path = str(Path.home()) + path[1:]
            section[key] = str((folder / path).resolve())


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of a document; an empty one if there is none, or something else in its place."""
    section = document.get(name)
    return section if isinstance(section, dict) else {}


def _set(document: dict[str, Any], key: str, value: Any, where: str = "") -> None:
    """Set a dotted key of nested mappings, making those that are missing. Keys that hold dots are met whole."""
    for name in sorted(document, key=len, reverse=True):
        if key.startswith(f"{name}.") and isinstance(document[name], dict):
            return _set(document[name], key.removeprefix(f"{name}."), value, f"{where}{name}.")
    if where == SPACE and key not in document:
        # What is below it is one key of the spec and then, perhaps, one of its range.
        name, dot, rest = key.rpartition(".") if key.rpartition(".")[2] in DIMENSION_KEYS else (key, "", "")
    else:
        name, dot, rest = key.partition(".")
    if key in document or not dot:
        document[key] = value
        return None
    document[name] = {}
    return _set(document[name], rest, value, f"{where}{name}.")
