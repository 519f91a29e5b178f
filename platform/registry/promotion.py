"""Whether a new version of a registered model becomes its champion."""

import math
from dataclasses import dataclass
from typing import Any

from ...models.card import Card
from ..base.keys import METRIC


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a version is judged by."""

    version: str
    miou: float | None
    """Mean IoU in percent on the validation images, as its card has it."""
    dataset: str | None
    """Digest of the dataset, validation images included."""
    protocol: Any
    """How the network read them, as its spec has it; None if that is not known."""


@dataclass(frozen=True, kw_only=True)
class Promote:
    """The challenger becomes the champion."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The two cannot be compared: the challenger waits for somebody to decide."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Keep:
    """The sitting champion is at least as good."""

    reason: str


Decision = Promote | Candidate | Keep


def decide(sitting: Standing | None, challenger: Standing) -> Decision:
    """What becomes of a challenger; `sitting` is the champion, if there is one."""
    if sitting is None:
        return Promote()
    champion = f"the champion, version {sitting.version}"
    ours, theirs = challenger.miou, sitting.miou
    if ours is None or math.isnan(ours):
        return Candidate(reason="it has no mIoU of its own to be compared by")
    if theirs is None or math.isnan(theirs):
        return Candidate(reason=f"{champion}, has no mIoU to be compared with")
    if sitting.dataset is None or sitting.dataset != challenger.dataset:
        return Candidate(reason=f"{champion}, was judged on other data")
    if sitting.protocol != challenger.protocol:
        return Candidate(reason=f"{champion}, was judged in another way, see trainer.evaluation")
    if ours > theirs:
        return Promote()
    return Keep(reason=f"{champion}, has mIoU {theirs:.2f} on the same data, and this one {ours:.2f}")


def standing_of(version: str, card: Card) -> Standing:
    """What a version is judged by, as its card says."""
    spec = card.lineage.get("spec", {})
    trainer = spec.get("trainer")
    evaluation = trainer.get("evaluation") if isinstance(trainer, dict) else None
    if isinstance(evaluation, dict):
        # Of these is a second figure, beside the one that counts.
        evaluation = {key: value for key, value in evaluation.items() if key not in ("scales", "flip")}
    return Standing(
        version=version,
        miou=card.metrics.get(METRIC),
        dataset=card.lineage.get("dataset_digest"),
        protocol=evaluation,
    )
