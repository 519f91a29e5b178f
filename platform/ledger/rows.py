"""What the ledger says of a trial, and which trial is the best."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from optuna.trial import TrialState

from ..spec.dimensions import Value
from ..workers.account import Account

BASELINE_NUMBER = -1
"""What stands for the number of the supervised baseline, which is no trial."""
STOPPED = "STOPPED"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial as the ledger knows it, or a training beside the study."""

    number: int
    params: dict[str, Value]
    state: TrialState
    reason: str
    """Why it failed or was stopped; empty otherwise."""
    curve: dict[int, float]
    """Mean IoU in percent by step."""
    account: Account = Account()
    beside: str | None = None
    """What stands in its key for the number, if it is no trial of the study."""
    arm: str | None = None
    """The arm of its sweep; None where that has none."""
    stopped: bool = field(default=False, compare=False)
    """Whether nobody works on it, though it has not ended."""

    @property
    def told_state(self) -> str:
        """Its state for people: of what nobody works on it is not RUNNING, but STOPPED until its sweep is resumed."""
        return STOPPED if self.stopped and self.state is TrialState.RUNNING else self.state.name

    @property
    def trial(self) -> int | str:
        """The second part of its key."""
        return self.number if self.beside is None else self.beside

    @property
    def value(self) -> float | None:
        """The newest mean IoU in percent, None before the first report."""
        return self.curve[max(self.curve)] if self.curve else None

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and mean IoU of the best report, of equals the first; None before the first finite one."""
        return best_of(self.curve)

    @property
    def step(self) -> int:
        """The step of the newest report, 0 before the first."""
        return max(self.curve, default=0)


def best_of(curve: Mapping[int, float]) -> tuple[int, float] | None:
    """Step and value of the greatest of some values by step, of equals the first; None without a finite one."""
    finite = [(step, value) for step, value in curve.items() if math.isfinite(value)]
    return max(finite, key=lambda report: (report[1], -report[0]), default=None)


def ended(row: Row, state: TrialState, reason: str = "") -> tuple[TrialState, str]:
    """As what a training ends: one without a finite value cannot be COMPLETE."""
    if state is TrialState.COMPLETE and (row.value is None or not math.isfinite(row.value)):
        return TrialState.FAIL, f"bad value: {row.value}"
    return state, reason


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The best complete trial against the supervised baseline."""

    best: Row | None
    baseline: float | None
    """Mean IoU in percent of the baseline; None unless it is complete."""

    @property
    def gain(self) -> float | None:
        """Percentage points by which the best trial is above the baseline; None where one is missing."""
        if self.best is None or self.best.value is None or self.baseline is None:
            return None
        return self.best.value - self.baseline

    @property
    def is_won(self) -> bool:
        """Whether the best trial beats the baseline; nothing beats one that is not there."""
        return self.gain is not None and self.gain > 0


def verdict_of(rows: Sequence[Row], baseline: Row) -> Verdict:
    """The verdict of a sweep."""
    return Verdict(best=best_row(rows), baseline=baseline.value if baseline.state is TrialState.COMPLETE else None)


def best_row(rows: Sequence[Row]) -> Row | None:
    """The complete trial of the highest mean IoU; of equals the first."""
    complete = [row for row in rows if row.state is TrialState.COMPLETE and row.value is not None]
    return max(complete, key=lambda row: (row.value or 0.0, -row.number), default=None)


def of_arm(rows: Sequence[Row], arm: str | None) -> list[Row]:
    """Those of one arm, in their order."""
    return [row for row in rows if row.arm == arm]


def best_first(rows: Sequence[Row]) -> list[Row]:
    """Complete trials by mean IoU, then the stopped and the failed ones by theirs."""

    def place(row: Row) -> tuple[bool, float, int]:
        known = row.value is not None and math.isfinite(row.value)
        return row.state is not TrialState.COMPLETE, -(row.value or 0.0) if known else math.inf, row.number

    return sorted(rows, key=place)


def fruitless(sweep: str, rows: Sequence[Row]) -> str:
    """Why a sweep has no complete trial, and what to do: one line."""
    reasons = Counter(row.reason for row in rows if row.state is TrialState.FAIL)
    if not reasons:
        return f"sweep {sweep} ended without a complete trial: all were stopped early; let its pruner begin later"
    ((reason, count),) = reasons.most_common(1)
    return (
        f"sweep {sweep} ended without a complete trial: {reasons.total()} of {len(rows)} failed, {count} of them of "
        f"this: {reason}; `advseg sweep retry {sweep}` hands them out again"
    )
