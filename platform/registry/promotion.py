"""Whether a new version of a registered model becomes its champion."""

from dataclasses import dataclass
from typing import Any

from ...models.card import Card
from ..gate.verdict import Gate, Outcome


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a version is judged by."""

    version: str
    dataset: str | None
    """Digest of the dataset, validation images included."""
    protocol: Any
    """How the network read them, as its spec has it; None if that is not known."""
    run: str | None
    """Id of the run that it came of, by which gates know it: a number may be given again; None if it came of none."""


@dataclass(frozen=True, kw_only=True)
class Promote:
    """The challenger becomes the champion."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """The challenger waits for somebody to decide."""

    reason: str


Decision = Promote | Candidate


def incomparable(sitting: Standing, challenger: Standing) -> str:
    """Why the values of two cannot be compared, if so; empty if they can."""
    champion = f"the champion, version {sitting.version}"
    if sitting.run is None:
        return f"{champion}, came of no run"
    if sitting.dataset is None or sitting.dataset != challenger.dataset:
        return f"{champion}, was judged on other data"
    if sitting.protocol != challenger.protocol:
        return f"{champion}, was judged in another way, see trainer.evaluation"
    return ""


def decide(sitting: Standing | None, challenger: Standing, gate: Gate | None) -> Decision:
    """What becomes of a challenger by what the gate said of it; `sitting` is the champion, if there is one."""
    if gate is None:
        return Candidate(reason="it is the best of its sweep, and was not confirmed on fresh seeds")
    if gate.outcome is not Outcome.PROMOTED:
        return Candidate(reason=gate.reason)
    if sitting is not None:
        if reason := incomparable(sitting, challenger):
            return Candidate(reason=reason)
        if gate.champion is None or gate.champion.run != sitting.run:
            return Candidate(reason=f"it was not compared with the champion, version {sitting.version}")
    return Promote(reason=gate.reason)


def standing_of(version: str, card: Card, run: str | None) -> Standing:
    """What a version is judged by, as its card says."""
    return Standing(
        version=version,
        dataset=card.lineage.get("dataset_digest"),
        protocol=protocol_of(card.lineage.get("spec", {})),
        run=run or None,
    )


def protocol_of(spec: Any) -> Any:
    """How a spec, as JSON, has networks read images for their mean IoU; None if it does not say."""
    trainer = spec.get("trainer")
    evaluation = trainer.get("evaluation") if isinstance(trainer, dict) else None
    if not isinstance(evaluation, dict):
        return evaluation
    # Of scales and flip is a second figure, beside the one that counts; specs of before do not have all keys.
    return {key: value for key, value in evaluation.items() if key not in ("scales", "flip") and value is not None}
