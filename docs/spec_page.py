"""The page of a job spec's keys, from the models that validate it."""

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

from markup import anchor, escaped
from pydantic import BaseModel
from words import as_yaml, in_words

from advseg.platform.spec.errors import members_of
from advseg.platform.spec.presets import DEVIATIONS
from advseg.platform.spec.space import searchable
from advseg.platform.spec.spec import Spec
from advseg.trainers.methods.consistency import PRESETS
from advseg.trainers.optimizers import OptimizerSettings

HEAD = """\
# The spec

A job is described by one YAML file, which is validated whole before anything starts: all that is wrong is listed at
once, each problem with its key, the rule, the value and the nearest valid name. This page is written from the models
that validate it, by `python docs/generate.py`. `jobs/specs/demo.yaml` is an example of a sweep; `advseg data init`
writes a first spec for your own images.

Paths in a file are relative to the file's folder. Keys without a default must be given; what the texts call None is
`null` in YAML. **Sweep** marks the keys that a sweep's space may vary: numbers and choices that determine a training's
result and may differ from trial to trial. The kind of a section may stand for it: `sampler: random` is
`sampler: {name: random}`.

`--set KEY=VALUE` of the commands that take a spec overrides any key, or gives one that the file lacks. The key is
dotted and the value is YAML; paths in it are relative to the working folder:

```
advseg submit leaves.yaml --set trainer.steps=10000 --set 'trainer.augmentation.crop=[128, 128]'
advseg submit leaves.yaml --set sweep.space.method.threshold.high=0.5
```
"""

SPACE = """\
A key of `sweep.space` is a dotted key of the spec that is marked **Sweep**; its value is one of the two forms below.
The ends of a range and all choices are put into the spec when it is read, so what a key would refuse is refused
before the first trial.

```yaml
sweep:
  trials: 40
  space:
    method.lambda_adv: {low: 0.001, high: 1, log: true} # uniform in the logarithm
    method.threshold: {low: 0, high: 0.9, step: 0.1} # 0, 0.1, ... 0.9
    method.semi_start: {low: 0, high: 4000, step: 500} # whole numbers, as the key holds such
    trainer.segmenter_optimizer.lr: {low: 1e-4, high: 1e-2, log: true}
    trainer.augmentation.mirror: {choices: [true, false]}
    model.width: {choices: [16, 32, 56]}
  first:
    # A point to try first names a value for every key of the space.
    - method.lambda_adv: 0.01
      method.threshold: 0.2
      method.semi_start: 500
      trainer.segmenter_optimizer.lr: 1e-3
      trainer.augmentation.mirror: true
      model.width: 32
```
"""

PRESET = """\
Paper and released code of Hung et al. (2018) differ in the fields below. A preset sets all of them that the spec does
not set itself; an optimizer of another kind, a model that is no DeepLab-v2 and a method that is not `adversarial` are
left as they are.
"""

FORMS = """\
`fixmatch`, `mean-teacher` and `unimatch-v2` set all of `method: consistency` that the spec does not set itself, and the
method where it names none. They differ in these fields; sources are beside the keys below `method`.
"""

TAGS = ("name", "architecture")
"""Fields that choose a kind of settings."""


def spec_page() -> str:
    """Every section and key of a spec: what it holds, its default, whether a sweep may vary it, and what it means."""
    return "\n".join([HEAD, *_Page(_sweepable()).sections("", Spec, 2)])


def _sweepable() -> set[str]:
    """The keys that some spec's sweep may vary, whatever kinds of model, method and optimizer it chooses."""
    hints = get_type_hints(Spec, include_extras=True)
    kinds = {name: [_tag(kind) for kind in members_of(hints[name])] for name in ("model", "method")}
    optimizers = [_tag(kind) for kind in members_of(OptimizerSettings)]
    found: set[str] = set()
    for model, method, optimizer in itertools.product(kinds["model"], kinds["method"], optimizers):
        document = {"method": {**method, "discriminator_optimizer": optimizer}, "model": model}
        found |= searchable({**document, "trainer": {"segmenter_optimizer": optimizer, "resize": {}}}).keys()
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Field:
    name: str
    hint: Any
    default: Any
    """`...` if it must be given."""
    text: str

    @property
    def settings(self) -> list[Any]:
        """The kinds of settings that it may hold, also as the values of a mapping."""
        members = members_of(self.hint)
        if get_origin(members[0]) is dict:
            members = members_of(get_args(members[0])[1])
        return [member for member in members if _is_settings(member)]

    @property
    def beside(self) -> list[Any]:
        """What else it may hold than settings."""
        return [member for member in members_of(self.hint) if get_origin(member) is tuple]


class _Page:
    def __init__(self, sweepable: set[str]) -> None:
        self._sweepable = sweepable
        self._described: dict[Any, str] = {}
        """The headings of settings that have been described."""

    def sections(self, key: str, kind: Any, level: int) -> Iterator[str]:
        """A table of the keys of settings, and then the settings that they hold."""
        yield f"{escaped(inspect.getdoc(kind) or '')}\n"
        fields = _fields(kind)
        paths = {field.name: f"{key}.{field.name}" if key else field.name for field in fields}
        swept = bool(self._sweepable & {*paths.values()})
        yield f"| Key | Holds | Default | {'Sweep | ' * swept}Meaning |\n|---|---|---|---|{'---|' * swept}"
        for field in fields:
            path = paths[field.name]
            own = [*map(in_words, field.beside), f"[keys of its own](#{anchor(path)})"]
            holds = ", or ".join(own) if field.settings else in_words(field.hint)
            mark = "✓" if path in self._sweepable and not _is_tag(field) else ""
            meaning = escaped(field.text or _summary(field))
            yield f"| `{field.name}` | {holds} | {_default(field)} | {f'{mark} | ' * swept}{meaning} |"
        yield ""
        for field in fields:
            yield from self._below(paths[field.name], field, level)

    def _below(self, path: str, field: _Field, level: int) -> Iterator[str]:
        """What a key asks for beside its row: the settings that it holds, and tables of its own."""
        heading, deeper = f"{'#' * level} {path}\n", min(level + 1, 6)
        if path == "preset":
            yield f"{heading}\n{PRESET}"
            yield from _deviations()
            yield FORMS
            yield from _forms()
        if not field.settings:
            return
        yield heading
        if path == "sweep.space":
            yield SPACE
        if known := [self._described[kind] for kind in field.settings if kind in self._described]:
            yield f"The keys are those of {', '.join(f'[{title}](#{anchor(title)})' for title in known)}.\n"
            return
        if len(field.settings) == 1:
            self._described[field.settings[0]] = path
            yield from self.sections(path, field.settings[0], deeper)
            return
        if tag := _tag(field.settings[0]):
            yield f"Its `{next(iter(tag))}` chooses what other keys there are.\n"
        for kind in field.settings:
            self._described[kind] = title = f"{path}: {_title(kind)}"
            yield f"{'#' * deeper} {title}\n"
            yield from self.sections(path, kind, min(deeper + 1, 6))


def _deviations() -> Iterator[str]:
    yield "| Key | paper | released-code | Why |\n|---|---|---|---|"
    for each in DEVIATIONS:
        yield f"| `{each.key}` | `{as_yaml(each.paper)}` | `{as_yaml(each.released)}` | {each.reason} |"
    yield ""


def _forms() -> Iterator[str]:
    yield f"| Key | {' | '.join(PRESETS)} |\n|---|{'---|' * len(PRESETS)}"
    forms = [dict(_values("method", dataclasses.asdict(settings))) for settings in PRESETS.values()]
    for key in forms[0]:
        values = [f"`{as_yaml(form[key])}`" for form in forms]
        if len({*values}) > 1:
            yield f"| `{key}` | {' | '.join(values)} |"
    yield ""


def _values(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The keys below one, those of mappings in it too, and their values."""
    if not isinstance(value, dict):
        yield key, value
        return
    for name, inner in value.items():
        yield from _values(f"{key}.{name}", inner)


def _default(field: _Field) -> str:
    """What a key is that is not given; of settings no more than what tells their kind."""
    if field.default is ...:
        return ""
    if not _is_settings(type(field.default)):
        return f"`{as_yaml(field.default)}`"
    tag = _tag(type(field.default)) if len(field.settings) > 1 else {}
    return f"`{as_yaml(tag)}`" if tag else "its defaults"


def _summary(field: _Field) -> str:
    """What the settings are that a key holds."""
    return (inspect.getdoc(field.settings[0]) or "").partition("\n")[0] if len(field.settings) == 1 else ""


def _is_settings(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind))


def _tag(kind: Any) -> dict[str, Any]:
    """The field that tells settings of a kind from others, with the first of the values that do."""
    hints = get_type_hints(kind)
    return {name: get_args(hints[name])[0] for name in TAGS if get_origin(hints.get(name)) is Literal}


def _is_tag(field: _Field) -> bool:
    """Whether the field says the kind of settings and has one value alone."""
    return get_origin(field.hint) is Literal and len(get_args(field.hint)) == 1


def _title(kind: Any) -> str:
    """The values that choose settings of a kind; without such, what they are."""
    hints = get_type_hints(kind)
    return ", ".join(value for name in _tag(kind) for value in get_args(hints[name])) or kind.__name__.lower()


def _fields(kind: Any) -> list[_Field]:
    """The keys of settings, in the order in which they are declared."""
    hints, texts = get_type_hints(kind, include_extras=True), _field_docstrings(kind)
    if issubclass(kind, BaseModel):
        defaults = {
            name: ... if field.is_required() else field.get_default(call_default_factory=True)
            for name, field in kind.model_fields.items()
        }
    else:
        defaults = {
            field.name: ... if field.default is dataclasses.MISSING else field.default
            for field in dataclasses.fields(kind)
        }
    return [
        _Field(name=name, hint=hints[name], default=default, text=texts.get(name, ""))
        for name, default in defaults.items()
    ]


def _field_docstrings(kind: type) -> dict[str, str]:
    """The texts that stand below the fields of a class."""
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(declared, ast.ClassDef)
    texts = {}
    for field, after in itertools.pairwise(declared.body):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            texts[field.target.id] = " ".join(str(after.value.value).split())
    return texts
