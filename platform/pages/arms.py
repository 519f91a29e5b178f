"""The arms of a sweep, best first: what each reached, on fresh seeds where its trials were confirmed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..gate.arms import Standing, standings
from ..gate.verdict import Comparison, Gate
from ..ledger.rows import Row, best_row, of_arm
from .importance import importances
from .terminal import percent


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """What became of one arm."""

    name: str
    rows: Sequence[Row]
    best: Row | None
    """Its best complete trial on the sweep's own seed."""
    standing: Standing | None
    """None if none of its trials was confirmed."""


def arms_of(rows: Sequence[Row], gate: str | None) -> list[ArmSummary]:
    """The arms of which trials were handed out, those that were confirmed first; `gate` is what that said, as JSON."""
    confirmed = standings(Gate.from_json(gate), {row.number: row.arm for row in rows}) if gate else []
    found = {standing.arm: standing for standing in confirmed}
    by_arm = {arm: of_arm(rows, arm) for arm in dict.fromkeys(row.arm for row in rows) if arm}
    summaries = [
        ArmSummary(name=arm, rows=own, best=best_row(own), standing=found.get(arm)) for arm, own in by_arm.items()
    ]
    places = {arm: place for place, arm in enumerate(found)}

    def place(summary: ArmSummary) -> tuple[int, float]:
        value = summary.best.value if summary.best else None
        return places.get(summary.name, len(places)), -(value or 0.0)

    return sorted(summaries, key=place)


def arm_lines(arms: Sequence[ArmSummary]) -> list[str]:
    """Each in a line."""
    return [f"{place}. {arm.name}: {_reached(arm)}" for place, arm in enumerate(arms, start=1)]


def _reached(arm: ArmSummary) -> str:
    if arm.standing is None:
        if arm.best is None:
            return f"none of {len(arm.rows)} trials is complete"
        best = f"best of {len(arm.rows)} trials is {arm.best.number} with mIoU {percent(arm.best.value)}"
        return f"{best}, not confirmed"
    standing = arm.standing
    reached = f"mIoU {percent(standing.miou)} on {standing.seeds} fresh seeds by trial {standing.trial}"
    return ", ".join([reached, *(f"{difference(each)} to {each.rival}" for each in standing.over if each.estimate)])


def difference(comparison: Comparison) -> str:
    """The mean of differences with its interval; empty if it is not known."""
    estimate = comparison.estimate
    if estimate is None:
        return ""
    interval = "" if estimate.low is None else f" [{estimate.low:+.2f}, {estimate.high:+.2f}]"
    return f"{estimate.mean:+.2f}{interval}"


def arm_json(arm: ArmSummary) -> dict[str, Any]:
    """What is printed of an arm; mean IoU and differences are in percent."""
    return {
        "name": arm.name,
        "trials": len(arm.rows),
        "best_trial": arm.best.number if arm.best else None,
        "best_miou": arm.best.value if arm.best else None,
        "importance": importances(arm.rows),
        "confirmed": arm.standing and _standing_json(arm.standing),
    }


def _standing_json(standing: Standing) -> dict[str, Any]:
    return {
        "trial": standing.trial,
        "miou": standing.miou,
        "seeds": standing.seeds,
        "differences": [
            {
                "to": each.rival,
                "mean": each.estimate.mean if each.estimate else None,
                "low": each.estimate.low if each.estimate else None,
                "high": each.estimate.high if each.estimate else None,
                "seeds": len(each.differences),
            }
            for each in standing.over
        ],
    }
