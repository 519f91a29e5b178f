"""Presets of a spec: where the paper and its released code differ, a field each, and published forms of consistency."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ...trainers.methods.consistency import PRESETS
from .errors import Problem

Preset = Literal["paper", "released-code", "fixmatch", "mean-teacher", "unimatch-v2"]


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """One field of which Hung et al. (2018) and their released code say different things."""

    key: str
    paper: Any
    released: Any
    reason: str


DEVIATIONS = (
    Deviation(
        key="model.branches",
        paper=4,
        released=2,
        reason="the released classifier returns from within its loop, after the second of four dilated branches",
    ),
    Deviation(
        key="trainer.segmenter_optimizer",
        paper={"name": "sgd", "lr": 2.5e-4, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4},
        released={"name": "sgd", "lr": 2.5e-4, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4},
        reason="the paper states Nesterov's momentum and a decay of 1e-4; the code has neither",
    ),
    Deviation(
        key="trainer.head_lr_factor",
        paper=1.0,
        released=10.0,
        reason="only the code lets the classifier learn ten times as fast, as DeepLab does",
    ),
    Deviation(
        key="trainer.body_lr_factor",
        paper=1.0,
        released=3.0,
        reason="each parameter of the body stands about three times in the code's optimizer, which steps it as often",
    ),
    Deviation(
        key="method.discriminator_optimizer",
        paper={"name": "adam", "lr": 1e-4, "betas": [0.9, 0.999], "weight_decay": 0.0},
        released={"name": "adam", "lr": 1e-4, "betas": [0.9, 0.99], "weight_decay": 0.0},
        reason="the paper names no betas, so Adam's own; the code sets the second to 0.99",
    ),
    Deviation(
        key="method.discriminator_sees_unlabelled",
        paper=False,
        released=True,
        reason="the paper trains the discriminator on labelled images alone; the code's D_remain is on",
    ),
    Deviation(
        key="method.discriminator_sees_void",
        paper=True,
        released=True,
        reason="neither hides predictions from the discriminator where truth is void or padding, which it is blank on",
    ),
    Deviation(
        key="method.semi_adv_start",
        paper=5000,
        released=0,
        reason="the paper starts all semi-supervised learning after 5000 steps; the code only its pseudo-label loss",
    ),
    Deviation(
        key="trainer.augmentation.scale",
        paper=[0.5, 1.5],
        released=[1.0, 1.0],
        reason="random scale is a flag of the code that is off by default",
    ),
    Deviation(
        key="trainer.augmentation.mirror",
        paper=False,
        released=False,
        reason="the paper names scale and crop alone; mirroring is a flag of the code that is off by default",
    ),
)


def usual_method(document: Mapping[str, Any]) -> str:
    """The method of a spec's document that names none: that of its preset."""
    return "consistency" if document.get("preset") in [*PRESETS] else "adversarial"


def unfit_preset(document: Mapping[str, Any]) -> Iterator[Problem]:
    """A preset of the consistency method where another method learns from unlabelled images."""
    if usual_method(document) == "consistency" and _is_method(document.get("method"), "adversarial"):
        text = f"is {document['preset']}, which sets method consistency, but method.name is adversarial: remove one"
        yield Problem("preset", text)


def apply_preset(document: dict[str, Any]) -> None:
    """Give a spec's document the values of the preset that it names, where it has none of its own.

    An optimizer of another kind than the preset's is left as it is, and so are a model that is no DeepLab-v2 and a
    method that is not the preset's.
    """
    name = document.get("preset")
    if name in [*PRESETS] and _is_method(document.get("method"), "consistency"):
        for field, value in asdict(PRESETS[name]).items():
            _fill(document, ["method", field], value)
    if name not in ("paper", "released-code"):
        return
    for deviation in DEVIATIONS:
        section, _, rest = deviation.key.partition(".")
        if section == "model" and not _is_deeplab_v2(document.get("model")):
            continue
        if section == "method" and not _is_method(document.get("method"), "adversarial"):
            continue
        value = deviation.paper if name == "paper" else deviation.released
        _fill(document, [section, *rest.split(".")], value)


def _is_deeplab_v2(model: Any) -> bool:
    return isinstance(model, Mapping) and str(model.get("architecture")).startswith("deeplab_v2")


def _is_method(method: Any, name: str) -> bool:
    return isinstance(method, Mapping) and method.get("name") == name


def _fill(document: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value where the document has none, and the missing keys of a mapping that is of the same kind."""
    name, *rest = path
    if rest:
        inner = document.setdefault(name, {})
        if isinstance(inner, dict):
            _fill(inner, rest, value)
        return
    own = document.setdefault(name, deepcopy(value))
    if isinstance(own, dict) and isinstance(value, dict) and own.get("name", value.get("name")) == value.get("name"):
        for key, default in value.items():
            _fill(own, [key], default)
