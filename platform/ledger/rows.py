"""What the ledger says of a trial, and which trial is the best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from ..spec.sweep import Value
from ..workers.account import Account


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial as the ledger knows it."""

    number: int
    params: dict[str, Value]
    state: TrialState
    reason: str
    """Why it failed or was stopped; empty otherwise."""
    curve: dict[int, float]
    """Mean IoU in percent by step."""
    account: Account = Account()

    @property
    def value(self) -> float | None:
        """The newest mean IoU in percent, None before the first report."""
        return self.curve[max(self.curve)] if self.curve else None


def best_row(rows: Sequence[Row]) -> Row | None:
    """The complete trial of the highest mean IoU; of equals the first."""
    complete = [row for row in rows if row.state is TrialState.COMPLETE and row.value is not None]
    return max(complete, key=lambda row: (row.value or 0.0, -row.number), default=None)


def beats(best_miou: float | None, baseline_miou: float | None) -> bool:
    """Whether a mean IoU is better than the baseline's; nothing beats a baseline that is not there."""
    return best_miou is not None and baseline_miou is not None and best_miou > baseline_miou


def best_first(rows: Sequence[Row]) -> list[Row]:
    """Complete trials by mean IoU, then the stopped and the failed ones by theirs."""

    def place(row: Row) -> tuple[bool, float, int]:
        known = row.value is not None and math.isfinite(row.value)
        return row.state is not TrialState.COMPLETE, -(row.value or 0.0) if known else math.inf, row.number

    return sorted(rows, key=place)
