"""What `advseg sweep show` prints."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..ledger.reading import read_sweep
from ..ledger.rows import Row, Verdict, best_first
from .importance import ENOUGH, importances
from .sparkline import scale_of
from .terminal import console_for, duration, importance_table, percent, states, trials_table

NO_IMPORTANCE = f"parameter importance: known from {ENOUGH} complete trials on, if mIoU and parameters vary"
SHOWN = 50
"""Trials that are printed unless all are asked for."""


def print_sweep(storage: Path, sweep: str, ledger: str | None = None, *, whole: bool = False) -> None:
    """Trials best first, the best against the supervised baseline, what decides the mean IoU, and totals.

    Raises UserError if there is no such sweep.
    """
    console = Console()
    record = read_sweep(storage, sweep, ledger)
    rows = best_first(record.rows)
    shown = rows if whole else rows[:SHOWN]
    table = trials_table(sweep, shown, scale_of(row.curve for row in rows))
    console_for(table).print(table)
    if len(shown) < len(rows):
        console.print(f"and {len(rows) - len(shown)} more trials: --all prints them too")
    console.print(verdict_line(record.verdict), soft_wrap=True)
    console.print(importance_table(shares) if (shares := importances(rows)) else NO_IMPORTANCE)
    console.print(totals_line(rows, record.baseline), soft_wrap=True)


def verdict_line(verdict: Verdict) -> str:
    """The best trial against the baseline, in a sentence."""
    best = verdict.best
    if best is None:
        return "no trial is complete"
    if best.value is None or verdict.baseline is None:
        return f"best trial {best.number}: mIoU {percent(best.value)}; no complete baseline"
    word = "beats" if verdict.is_won else "does not beat"
    return (
        f"best trial {best.number} with mIoU {best.value:.1f} {word} the supervised baseline "
        f"with {verdict.baseline:.1f} ({verdict.gain:+.1f})"
    )


def totals_line(rows: Sequence[Row], baseline: Row) -> str:
    """What trials became, and what they and the baseline cost."""
    seconds = sum(row.account.device_seconds for row in rows)
    lost = sum(row.account.lost_steps for row in (*rows, baseline))
    beside = f" and {duration(baseline.account.device_seconds)} of the baseline"
    return f"trials: {states(rows)}; device time: {duration(seconds)}{beside}; lost steps: {lost}"
