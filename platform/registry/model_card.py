"""What a model says of itself to people: the README.md of a registered version, in the form of the Hugging Face Hub."""

import math
import re
from typing import Any

import yaml

from ...models.card import Card
from ...models.resize import LongerSide
from ..gate.verdict import Gate
from .confirmed import CONFIRMED, confirmed
from .markdown import listing, table, text

MODEL_CARD = "README.md"
UNKNOWN = "unknown"
"""The licence of a model that nobody has given one."""
_PLAIN = re.compile(r"[\w-]+@[0-9]+", re.ASCII)
_MOST_CLASSES = 256
"""Rows of the table of classes."""
_ABSENT = object()
_MEANS = {
    "val/miou": "mean IoU",
    "val/miou_multiscale": "mean IoU, averaged over scales",
    "val/pixel_accuracy": "pixel accuracy",
    "val/class_accuracy": "mean class accuracy",
}


def model_card(card: Card, gate: Gate | None, licence: str = UNKNOWN, reference: str | None = None) -> str:
    """Markdown of a card and of the newest verdict on its trial, with YAML ahead; `reference` is `<name>@<version>`.

    Words of the two are text in it, whatever they are: no markup, no links.
    """
    front = {
        "license": licence,
        "library_name": "advseg",
        "pipeline_tag": "image-segmentation",
        "tags": ["semantic-segmentation", "pytorch", "safetensors"],
    }
    sections = {
        "Use": _use,
        CONFIRMED: lambda card: confirmed(_of(card, "key"), gate),
        "Figures": _figures,
        "Data": _data,
        "Limits": _limits,
        "Where it comes from": lambda card: _lineage(card, reference),
    }
    written = [f"## {title}\n\n{section(card)}\n" for title, section in sections.items()]
    return "\n".join([f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n", _head(card, reference), *written])


def _head(card: Card, reference: str | None) -> str:
    name = text(_of(card, "spec", "name") or _of(card, "key") or "A segmentation model")
    if reference is not None:
        registered, _, version = reference.rpartition("@")
        name = f"{text(registered)}, version {text(version)}"
    return (
        f"# {name}\n\n"
        f"A network of the architecture {text(card.segmenter.architecture)} that gives each pixel of an image one of "
        f"{len(card.classes)} classes.\n"
    )


def _use(card: Card) -> str:
    return (
        "This folder is data: `model.json`, safetensors, and `MANIFEST.json` with their SHA-256 sums. Once\n"
        "`advseg models pull` has brought it to a folder:\n\n"
        "```\nadvseg predict FOLDER IMAGE... --to masks\n```\n\n"
        f"Images are RGB, of any size; {_reading(card)}. Masks hold class ids from 0, in the order below."
    )


def _reading(card: Card) -> str:
    match card.resize:
        case None:
            size = "at its own size"
        case LongerSide():
            size = f"brought to {card.resize.longer} pixels on its longer side, in its own proportions"
        case height, width:
            size = f"brought to a height of {height} and a width of {width} pixels"
    how = "window by window" if _of(card, "spec", "trainer", "evaluation", "mode") == "sliding" else "whole"
    return f"the network reads each {how}, {size}, as those by which it was judged"


def _figures(card: Card) -> str:
    means = {title: card.metrics[key] for key, title in _MEANS.items() if key in card.metrics}
    if not means:
        return "It has not been judged."
    ious = [(name, card.metrics.get(f"val/iou/{name}")) for name in card.classes]
    some = f"{judged} of " if (judged := _of(card, "judged_by")) else ""
    rows = [(str(id), text(name), _percent(iou)) for id, (name, iou) in enumerate(ious[:_MOST_CLASSES])]
    more = len(ious) - len(rows)
    return "\n".join(
        [
            f"In percent, on {some}the validation images, by which a sweep chooses among its trials.",
            "",
            table(("figure", "percent"), ((title, _percent(value)) for title, value in means.items())),
            "",
            table(("id", "class", "IoU"), rows),
            *(["", f"and {more} more classes, in `model.json`."] if more else []),
        ]
    )


def _data(card: Card) -> str:
    parts = _of(card, "images") or {}
    images = ", ".join(f"{text(part)} {count}" for part, count in parts.items()) or "not recorded"
    return listing(
        {"digest": _recorded(_of(card, "dataset_digest")), "images": images, "classes": str(len(card.classes))}
    )


def _limits(card: Card) -> str:
    known = [
        "The figures are of images of one dataset, and those of its validation images flatter whoever was chosen by "
        "them: expect less of other images.",
        "It was not judged on other data, cameras, light or weather, nor on damaged images; nor how far its "
        "probabilities can be trusted, nor how fast it is.",
        "It always names one of its classes, also where an image shows none of them.",
    ]
    missing = [name for name in card.classes if f"val/iou/{name}" not in card.metrics]
    if missing and "val/miou" in card.metrics:
        known.append(f"Nothing is known of classes without an IoU, {len(missing)} of {len(card.classes)}.")
    return "\n".join(f"- {limit}" for limit in known)


def _lineage(card: Card, reference: str | None) -> str:
    weights = _of(card, "spec", "model", "weights") or _of(card, "spec", "model", "pretrained")
    start = "none: it was trained from fresh weights"
    if weights is not None:
        # Where they lay is the trainer's own.
        start = f"{text(str(weights).rpartition('/')[2])}, whose licence is unknown: ask their makers"
    again = {}
    # Other names could be markup, and none of ours.
    if reference is not None and _PLAIN.fullmatch(reference):
        again = {"to train it again": f"`advseg reproduce models:/{reference.replace('@', '/')}`, by its registry"}
    swept = [text(f"{key} {_short(value)}") for key, value in _swept(card).items()]
    return listing(
        {
            "trial": _recorded(_of(card, "key")),
            **({"swept": ", ".join(swept)} if swept else {}),
            "method": _recorded(_of(card, "spec", "method", "name")),
            "step": _recorded(_of(card, "step")),
            "checkpoint": _recorded(_of(card, "checkpoint")),
            "start weights": start if _of(card, "spec", "model") else "not recorded",
            **again,
        }
    )


def _swept(card: Card) -> dict[str, Any]:
    """The values of the keys that its sweep varies."""
    space = _of(card, "spec", "sweep", "space")
    keys = space if isinstance(space, dict) else ()
    values = {key: _of(card, "spec", *str(key).split("."), absent=_ABSENT) for key in keys}
    # Of a baseline there is no value where its trials have a method that it does not.
    return {key: value for key, value in values.items() if value is not _ABSENT}


def _short(value: Any) -> str:
    return "null" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _of(card: Card, *keys: str, absent: Any = None) -> Any:
    """What a card's lineage has in a place, or what stands for nothing."""
    found: Any = card.lineage
    for key in keys:
        found = found.get(key, absent) if isinstance(found, dict) else absent
    return found


def _percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


def _recorded(value: Any) -> str:
    return "not recorded" if value is None else text(value)
