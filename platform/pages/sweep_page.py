"""What `advseg sweep show` prints."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base.keys import BASELINE, key_of
from ..gate.verdict import Gate
from ..ledger.reading import SweepRecord, read_sweep
from ..ledger.rows import Row, Verdict, best_first
from .arms import arm_json, arm_lines, arms_of
from .console import VisibleConsole
from .gate_line import gate_json, gate_line
from .importance import ENOUGH, importances
from .sparkline import scale_of
from .terminal import console_for, duration, importance_table, percent, state_counts, states, trials_table

NO_IMPORTANCE = f"parameter importance: known from {ENOUGH} complete trials on, if mIoU and parameters vary"
SHOWN = 50
"""Trials that are printed unless all are asked for."""
_WIDE, _AMPLE = 16, 100
"""Columns of a learning curve, and of the narrowest terminal that has room for curves."""


def print_sweep(storage: Path | None, sweep: str, ledger: str | None = None, *, whole: bool = False) -> None:
    """Trials best first, the best against the supervised baseline, what decides the mean IoU, and totals.

    `whole` prints all trials, and why they ended in full. Raises UserError if there is no such sweep.
    """
    console = VisibleConsole()
    record = read_sweep(storage, sweep, ledger)
    rows = best_first(record.rows)
    shown = rows if whole else rows[:SHOWN]
    scale = scale_of((row.curve for row in rows), _WIDE) if console.width >= _AMPLE else None
    table = trials_table(sweep, shown, scale)
    console_for(table).print(table)
    if len(shown) < len(rows):
        console.print(f"and {len(rows) - len(shown)} more trials: --all prints them too")
    for row in rows if whole else ():
        if row.reason:
            console.print(reason_line(row), soft_wrap=True, markup=False, highlight=False)
    console.print(verdict_line(record.verdict), soft_wrap=True)
    if record.baseline.account.attempts and record.verdict.baseline is None:
        console.print(baseline_line(record.baseline), soft_wrap=True, markup=False, highlight=False)
    if record.gate:
        told = f"on fresh seeds: {gate_line(Gate.from_json(record.gate))}"
        console.print(told, soft_wrap=True, markup=False, highlight=False)
    arms = arms_of(rows, record.gate)
    for line in arm_lines(arms):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    shares = {arm.name: importances(arm.rows) for arm in arms} or {None: importances(rows)}
    for arm, own in shares.items():
        if own:
            console.print(importance_table(own, arm))
    if not all(shares.values()):
        console.print(NO_IMPORTANCE)
    console.print(totals_line(rows, record.baseline, record.confirmations), soft_wrap=True)
    unfinished = sum(not row.state.is_finished() for row in rows)
    if unfinished and not record.is_owned:
        console.print(f"{unfinished} unfinished and stopped: `advseg sweep resume {sweep}` goes on", soft_wrap=True)


def sweep_json(record: SweepRecord) -> dict[str, Any]:
    """All that is printed of a sweep, and all of its trials, best first; mean IoU is in percent."""
    verdict, rows = record.verdict, best_first(record.rows)
    arms = arms_of(rows, record.gate)
    return {
        "name": record.name,
        "best_trial": verdict.best.number if verdict.best else None,
        "best_miou": verdict.best.value if verdict.best else None,
        "baseline_miou": verdict.baseline,
        "gain": verdict.gain,
        "states": state_counts(rows),
        "device_seconds": sum(row.account.device_seconds for row in rows),
        "lost_steps": sum(row.account.lost_steps for row in rows),
        "importance": {} if arms else importances(rows),
        "arms": [arm_json(arm) for arm in arms],
        "running": record.is_owned,
        "baseline": {"key": key_of(record.name, BASELINE), **_row_json(record.baseline)},
        "gate": gate_json(Gate.from_json(record.gate)) if record.gate else None,
        "confirmations": [
            {"key": key_of(record.name, row.trial), **_row_json(row)}
            for row in record.confirmations
            if row.account.attempts
        ],
        "trials": [
            {
                "number": row.number,
                "key": key_of(record.name, row.number),
                "arm": row.arm,
                "params": row.params,
                **_row_json(row),
            }
            for row in rows
        ],
    }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "state": row.told_state,
        "reason": row.reason,
        "step": row.step,
        "miou": row.value,
        "best": best_json(row.best),
        "curve": [{"step": step, "miou": miou} for step, miou in row.curve.items()],
        "attempts": row.account.attempts,
        "device_seconds": row.account.device_seconds,
        "images_per_second": row.account.images_per_second,
        "lost_steps": row.account.lost_steps,
        "mlflow_run": row.account.run_id,
        "checkpoint": row.account.checkpoint,
    }


def best_json(best: tuple[int, float] | None) -> dict[str, Any] | None:
    """Step and mean IoU of a best report."""
    return None if best is None else {"step": best[0], "miou": best[1]}


def verdict_line(verdict: Verdict) -> str:
    """The best trial against the baseline, in a sentence."""
    best = verdict.best
    if best is None:
        return f"no trial is complete; the supervised baseline has mIoU {percent(verdict.baseline)}"
    if best.value is None or verdict.baseline is None:
        return f"best trial {best.number}: mIoU {percent(best.value)}; no complete baseline"
    word = "beats" if verdict.is_won else "does not beat"
    return (
        f"best trial {best.number} with mIoU {best.value:.2f} {word} the supervised baseline "
        f"with {verdict.baseline:.2f} ({verdict.gain:+.2f})"
    )


def baseline_line(baseline: Row) -> str:
    """How far a baseline is that is not complete, in a line."""
    reason = f", {' '.join(baseline.reason.split())}" if baseline.reason else ""
    return f"supervised baseline: {baseline.told_state} at step {baseline.step}, mIoU {percent(baseline.value)}{reason}"


def reason_line(row: Row) -> str:
    """Why a trial ended, in a line."""
    return f"trial {row.number}: {row.told_state}, {' '.join(row.reason.split())}"


def totals_line(rows: Sequence[Row], baseline: Row, confirmations: Sequence[Row]) -> str:
    """What trials became, and what they and the trainings beside them cost."""
    lost = sum(row.account.lost_steps for row in (*rows, baseline, *confirmations))
    beside = f" and {_device_time([baseline])} of the baseline"
    if confirmations:
        beside = f", {_device_time([baseline])} of the baseline and {_device_time(confirmations)} on fresh seeds"
    return f"trials: {states(rows)}; device time: {_device_time(rows)}{beside}; lost steps: {lost}"


def _device_time(rows: Sequence[Row]) -> str:
    return duration(sum(row.account.device_seconds for row in rows))
