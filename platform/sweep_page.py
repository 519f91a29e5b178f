"""What `advseg sweep show` prints."""

import math
from pathlib import Path

from rich.console import Console

from ..trainers.loop import read_outcome
from .keys import BASELINE, directory_of, key_of
from .ledger import Row, beats, best_row, read_rows
from .report_keys import METRIC
from .tables import percent, trials_table


def print_sweep(storage: Path, sweep: str) -> None:
    """Trials best first, and the best against the supervised baseline. Raises UserError if there is no such sweep."""
    console = Console()
    rows = read_rows(storage, sweep)
    console.print(trials_table(sweep, best_first(rows)))
    console.print(verdict_line(best_row(rows), baseline_miou(storage, sweep)))


def baseline_miou(storage: Path, sweep: str) -> float | None:
    """Mean IoU in percent of a sweep's supervised baseline as far as it got."""
    outcome = read_outcome(directory_of(storage, key_of(sweep, BASELINE)))
    return outcome.metrics[METRIC] if outcome else None


def best_first(rows: list[Row]) -> list[Row]:
    """Complete trials by mean IoU, then the stopped and the failed ones by theirs."""

    def place(row: Row) -> tuple[bool, float, int]:
        known = row.value is not None and math.isfinite(row.value)
        return row.state.name != "COMPLETE", -(row.value or 0.0) if known else math.inf, row.number

    return sorted(rows, key=place)


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
