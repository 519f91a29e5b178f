"""What `advseg sweep show` prints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ...trainers.loop import read_outcome
from ..base.keys import BASELINE, METRIC, directory_of, key_of
from ..ledger.ledger import read_rows
from ..ledger.rows import Row, beats, best_first, best_row
from .importance import ENOUGH, importances
from .sparkline import scale_of
from .terminal import console_for, duration, importance_table, percent, state_counts, states, trials_table

NO_IMPORTANCE = f"parameter importance: known from {ENOUGH} complete trials on, if mIoU and parameters vary"
SHOWN = 50
"""Trials that are printed unless all are asked for."""
_WIDE, _NARROW, _AMPLE = 16, 8, 100
"""Columns of a learning curve in an ample terminal and in another, and the columns of the narrowest ample one."""


def print_sweep(storage: Path, sweep: str, ledger: str | None = None, *, whole: bool = False) -> None:
    """Trials best first, the best against the supervised baseline, what decides the mean IoU, and totals.

    `whole` prints all trials, and why they ended in full. Raises UserError if there is no such sweep.
    """
    console = Console()
    rows = best_first(read_rows(storage, sweep, ledger))
    shown = rows if whole else rows[:SHOWN]
    scale = scale_of((row.curve for row in rows), _WIDE if console.width >= _AMPLE else _NARROW)
    table = trials_table(sweep, shown, scale)
    console_for(table).print(table)
    if len(shown) < len(rows):
        console.print(f"and {len(rows) - len(shown)} more trials: --all prints them too")
    for row in rows if whole else ():
        if row.reason:
            console.print(reason_line(row), soft_wrap=True, markup=False, highlight=False)
    console.print(verdict_line(best_row(rows), baseline_miou(storage, sweep)), soft_wrap=True)
    console.print(importance_table(shares) if (shares := importances(rows)) else NO_IMPORTANCE)
    console.print(totals_line(rows), soft_wrap=True)


def sweep_json(sweep: str, rows: Sequence[Row], baseline: float | None) -> dict[str, Any]:
    """All that is printed of a sweep, and all of its trials, best first; mean IoU is in percent."""
    best = best_row(rows)
    return {
        "name": sweep,
        "baseline_miou": baseline,
        "best_trial": best.number if best else None,
        "best_miou": best.value if best else None,
        "states": state_counts(rows),
        "device_seconds": sum(row.account.device_seconds for row in rows),
        "lost_steps": sum(row.account.lost_steps for row in rows),
        "importance": importances(rows),
        "trials": [_trial_json(sweep, row) for row in best_first(rows)],
    }


def _trial_json(sweep: str, row: Row) -> dict[str, Any]:
    return {
        "number": row.number,
        "key": key_of(sweep, row.number),
        "state": row.state.name,
        "reason": row.reason,
        "params": row.params,
        "step": max(row.curve, default=0),
        "miou": row.value,
        "curve": [{"step": step, "miou": miou} for step, miou in row.curve.items()],
        "attempts": row.account.attempts,
        "device_seconds": row.account.device_seconds,
        "lost_steps": row.account.lost_steps,
        "mlflow_run": row.account.run_id,
        "checkpoint": row.account.checkpoint,
    }


def baseline_miou(storage: Path, sweep: str) -> float | None:
    """Mean IoU in percent of a sweep's supervised baseline as far as it got."""
    outcome = read_outcome(directory_of(storage, key_of(sweep, BASELINE)))
    return outcome.metrics[METRIC] if outcome else None


def verdict_line(best: Row | None, baseline: float | None) -> str:
    """The best trial against the baseline, in a sentence."""
    if best is None:
        return "no trial is complete"
    if baseline is None or best.value is None:
        return f"best trial {best.number}: mIoU {percent(best.value)}; no baseline yet"
    word = "beats" if beats(best.value, baseline) else "does not beat"
    return (
        f"best trial {best.number} with mIoU {best.value:.1f} {word} the supervised baseline "
        f"with {baseline:.1f} ({best.value - baseline:+.1f})"
    )


def reason_line(row: Row) -> str:
    """Why a trial ended, in a line."""
    return f"trial {row.number}: {row.state.name}, {' '.join(row.reason.split())}"


def totals_line(rows: Sequence[Row]) -> str:
    """What trials became and what they cost together."""
    seconds = sum(row.account.device_seconds for row in rows)
    lost = sum(row.account.lost_steps for row in rows)
    return f"trials: {states(rows)}; device time: {duration(seconds)}; lost steps: {lost}"
