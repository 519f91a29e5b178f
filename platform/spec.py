"""The job spec: one YAML file, validated whole before anything starts."""

import hashlib
import json
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from ..models.architectures import SegmenterSettings
from ..models.discriminator import DiscriminatorSettings
from ..trainers.data.dataset import DatasetSettings
from ..trainers.errors import UserError
from ..trainers.loop import Recipe, TrainerSettings
from .spec_errors import Problem, problems_of

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
"""Lower-case letters, digits and hyphens: what Ray, MLflow, file systems and URLs all take."""

SEARCHABLE = {
    f"trainer.{name}": get_type_hints(TrainerSettings, include_extras=True)[name]
    for name in ("lambda_adv", "lambda_semi_adv", "lambda_semi", "threshold")
}
"""Keys that a sweep may vary, with their types."""


class SpecError(UserError):
    """All that is wrong with a spec, a line for each problem."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Section):
    """Values that a sweep may try for one key."""

    low: float
    high: float
    log: bool = False
    """Draw uniformly in the logarithm; the range must then lie above 0."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low must be below high, but low is {self.low} and high is {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range must lie above 0, but low is {self.low}")
        return self


class Sampler(_Section):
    """How trials are proposed."""

    name: Literal["tpe"] = "tpe"
    startup_trials: Annotated[int, Field(ge=1)] = 10
    """Trials drawn at random before the model of the tree-structured Parzen estimator decides."""


class Pruner(_Section):
    """When a trial is stopped early."""

    name: Literal["successive_halving"] = "successive_halving"
    min_resource: Annotated[int, Field(ge=1)]
    """Steps that every trial may make; it is judged then, and whenever its steps have grown by `reduction_factor`."""
    reduction_factor: Annotated[int, Field(ge=2)] = 2
    """A trial goes on if it is among the best 1 / `reduction_factor` of those judged at the same step so far."""


class Sweep(_Section):
    """What to search, how, and for how long."""

    trials: Annotated[int, Field(ge=1)]
    concurrency: Annotated[int, Field(ge=1)] = 2
    """Trials that run at the same time."""
    space: dict[str, Range]
    """Ranges by key, e.g. `trainer.lambda_adv`."""
    first: tuple[dict[str, float], ...] = ()
    """Points to try before the sampler proposes any; the paper's, for example."""
    sampler: Sampler = Sampler()
    pruner: Pruner | None = None
    baseline_workers: Annotated[int, Field(ge=1)] = 1
    """Ray Train workers of the supervised baseline, which runs beside the study on the same labels and steps."""
    register_as: Name | None = None
    """Registered model that the best trial becomes a version of, if it beats the baseline."""


class Resources(_Section):
    """What one training asks of the cluster."""

    workers: Annotated[int, Field(ge=1)] = 1
    """Ray Train workers that share one global batch."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0


class Spec(_Section):
    """A job: one training, or a sweep of many."""

    job: Literal["train", "sweep"]
    name: Name
    """Identity of the job and first part of its trials' keys."""
    dataset: DatasetSettings
    model: SegmenterSettings
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    trainer: TrainerSettings
    resources: Resources = Resources()
    sweep: Sweep | None = None
    storage: Path | None = None
    """Folder for checkpoints and the ledger, reachable from all nodes; by default `runs` beside the services' state."""

    @model_validator(mode="after")
    def _parts_match(self) -> Self:
        if self.job == "sweep" and self.sweep is None:
            raise ValueError("job is sweep, but there is no section sweep: add one or set job to train")
        if self.job == "train" and self.sweep is not None:
            raise ValueError("job is train, but there is a section sweep: remove it or set job to sweep")
        self.recipe()
        return self

    def recipe(self) -> Recipe:
        """What the trainer needs of it. Raises ValueError if its parts do not go together."""
        return Recipe(segmenter=self.model, discriminator=self.discriminator, trainer=self.trainer)

    def with_values(self, values: dict[str, float]) -> "Spec":
        """This spec with some keys, e.g. `trainer.lambda_adv`, set to other values."""
        document = self.model_dump(mode="json")
        for key, value in values.items():
            _set(document, key, value)
        return Spec.model_validate(document)

    def supervised(self) -> "Spec":
        """This spec with every lambda at 0: the same labels and steps, without the method."""
        return self.with_values({"trainer.lambda_adv": 0, "trainer.lambda_semi_adv": 0, "trainer.lambda_semi": 0})

    def digest(self) -> str:
        """Identity of all that determines a sweep's results, apart from how long it goes on and where."""
        document = self.model_dump(mode="json", exclude={"storage": True, "resources": True})
        for key in ("trials", "concurrency", "register_as"):
            (document["sweep"] or {}).pop(key, None)
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def load_spec(path: Path, overrides: Iterable[str] = ()) -> Spec:
    """Read and validate a spec with `key=value` overrides.

    Paths in the file are relative to the file's folder, paths in overrides to the working folder.
    Raises SpecError that lists every problem with its key.
    """
    try:
        document = _read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"spec {path} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"spec {path} cannot be read: {_one_line(error)}") from None
    if not isinstance(document, dict):
        kind = "is empty" if document is None else f"is a {type(document).__name__}"
        raise SpecError(f"spec {path} must be a YAML mapping of keys to values, but {kind}")
    _anchor(document, path.resolve().parent)
    for override in overrides:
        key, equals, text = override.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names):
            raise SpecError(f"--set {override} must have the form key=value, as in --set trainer.lambda_adv=0.02")
        try:
            _set(document, ".".join(names), _read_yaml(text))
        except yaml.YAMLError as error:
            raise SpecError(f"--set {override} has a value that is not YAML: {_one_line(error)}") from None
    _anchor(document, Path.cwd())
    return parse_spec(document, source=str(path))


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
    try:
        spec = Spec.model_validate(document)
    except ValidationError as error:
        problems += problems_of(error, Spec, document)
    problems += _missing_folders(document)
    # Checked even where other sections are wrong, so that all problems are told at once.
    if sweep := _valid_sweep(document):
        problems += _unsearchable(sweep)
    if spec:
        problems += _too_many_workers(spec)
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


def _unsearchable(sweep: Sweep) -> Iterable[Problem]:
    """Problems of the space that concern other sections: unknown keys, and values that the trainer refuses."""
    for key, range_ in sweep.space.items():
        if key not in SEARCHABLE:
            yield Problem.unknown(f"sweep.space.{key}", SEARCHABLE)
            continue
        for end in ("low", "high"):
            yield from _refused(f"sweep.space.{key}.{end}", key, getattr(range_, end))
    if not sweep.space:
        yield Problem("sweep.space", "is empty: name at least one key, such as trainer.lambda_adv")
    for number, point in enumerate(sweep.first):
        for key, value in point.items():
            where = f"sweep.first.{number}.{key}"
            if key not in sweep.space:
                yield Problem.unknown(where, sweep.space)
            elif not sweep.space[key].low <= value <= sweep.space[key].high:
                yield Problem(where, f"must lie in the key's range in sweep.space, but is {value}")
        for key in sweep.space.keys() - point.keys():
            yield Problem(f"sweep.first.{number}", f"lacks a value for {key}")


def _too_many_workers(spec: Spec) -> Iterable[Problem]:
    """Every worker needs an image of each batch."""
    asked = {"resources.workers": spec.resources.workers}
    if spec.sweep:
        asked["sweep.baseline_workers"] = spec.sweep.baseline_workers
    for key, workers in asked.items():
        if workers > spec.trainer.batch_size:
            yield Problem(key, f"must be at most trainer.batch_size, {spec.trainer.batch_size}, but is {workers}")


def _refused(where: str, key: str, value: float) -> Iterable[Problem]:
    try:
        TypeAdapter(SEARCHABLE[key]).validate_python(value)
    except ValidationError as error:
        yield Problem(where, problems_of(error, Spec, value)[0].text)


def _missing_folders(document: dict[str, Any]) -> Iterable[Problem]:
    dataset = document.get("dataset")
    root = dataset.get("root") if isinstance(dataset, dict) else None
    if isinstance(root, str) and not Path(root).is_dir():
        yield Problem("dataset.root", f"folder {root} does not exist: put the dataset there or name where it lies")


def _anchor(document: dict[str, Any], folder: Path) -> None:
    """Make the paths of a document absolute; those that are already stay."""
    for section, key in ((document.get("dataset"), "root"), (document, "storage")):
        if isinstance(section, dict) and isinstance(section.get(key), str):
            path = section[key]
            if path == "~" or path.startswith("~/"):
                path = str(Path.home()) + path[1:]
            section[key] = str((folder / path).resolve())


def _set(document: dict[str, Any], key: str, value: Any, where: str = "") -> None:
    """Set a dotted key of nested mappings, making those that are missing. Keys that hold dots are met whole."""
    known = [*document, *(SEARCHABLE if where == "sweep.space." else ())]
    for name in known:
        if key.startswith(f"{name}.") and isinstance(document.setdefault(name, {}), dict):
            return _set(document[name], key.removeprefix(f"{name}."), value, f"{where}{name}.")
    name, dot, rest = key.partition(".")
    if key in known or not dot:
        document[key] = value
        return None
    document[name] = {}
    return _set(document[name], rest, value, f"{where}{name}.")
