"""What `advseg sweep list` prints."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from ..base.addresses import shown
from ..ledger.reading import SweepRecord
from ..spec.ledger_address import ELSEWHERE
from .console import words
from .shortened import Shortened
from .sweep_page import best_json
from .terminal import best_report, console_for, percent, state_counts, states


def print_sweeps(sweeps: Sequence[SweepRecord], storage: str, ledger: str | None) -> None:
    """A line for each sweep of a ledger, by default that of a storage; without any, how to begin or find one."""
    if not sweeps:
        place, elsewhere = (storage, f"; {ELSEWHERE}") if ledger is None else (shown(ledger), "")
        print(f"no sweep in {place} yet: `advseg submit SPEC` begins one{elsewhere}")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("sweep", no_wrap=True)
    for heading in ("trials", "best trial", "mIoU", "best"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("states")
    for sweep in sweeps:
        said, best = listed_sweep_json(sweep), sweep.verdict.best
        # How many an older version's sweep may make is not known.
        planned = "?" if said["planned_trials"] is None else said["planned_trials"]
        table.add_row(
            sweep.name,
            f"{said['finished_trials']}/{planned}",
            "-" if best is None else str(best.number),
            percent(said["best_miou"]),
            best_report(best and best.best),
            Shortened(words(states(sweep.rows))),
        )
    console_for(table).print(table)


def listed_sweep_json(sweep: SweepRecord) -> dict[str, Any]:
    """What is printed of a sweep; mean IoU is in percent."""
    best = sweep.verdict.best
    return {
        "name": sweep.name,
        "planned_trials": sweep.spec.sweep.budget if sweep.spec and sweep.spec.sweep else None,
        "finished_trials": sum(row.state.is_finished() for row in sweep.rows),
        "states": state_counts(sweep.rows),
        "best_trial": best.number if best else None,
        "best_miou": best.value if best else None,
        "best": best_json(best and best.best),
    }
