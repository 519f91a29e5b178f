"""What `advseg sweep list` prints."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ...trainers.errors import UserError
from ..ledger.ledger import read_rows, read_spec, sweep_names
from ..ledger.rows import Row, best_row
from .shortened import Shortened
from .terminal import console_for, percent, state_counts, states


@dataclass(frozen=True, kw_only=True)
class ListedSweep:
    """A sweep of a ledger."""

    name: str
    planned: int | None
    """The trials that it may make; None of one that an older version of advseg began."""
    rows: Sequence[Row]


def list_sweeps(storage: Path, ledger: str | None = None) -> list[ListedSweep]:
    """The sweeps of a ledger, in the order of their beginning."""
    return [
        ListedSweep(name=name, planned=_planned(storage, name, ledger), rows=read_rows(storage, name, ledger))
        for name in sweep_names(storage, ledger)
    ]


def print_sweeps(sweeps: Sequence[ListedSweep], place: str) -> None:
    """A line for each sweep; without any, how to begin one."""
    if not sweeps:
        print(f"no sweep in {place} yet: `advseg submit SPEC` begins one")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("sweep", no_wrap=True)
    for heading in ("trials", "best mIoU", "best trial"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("states")
    for sweep in sweeps:
        done = sum(row.state.is_finished() for row in sweep.rows)
        best = best_row(sweep.rows)
        table.add_row(
            sweep.name,
            f"{done}/{'?' if sweep.planned is None else sweep.planned}",
            percent(best.value if best else None),
            str(best.number) if best else "-",
            Shortened(Text(states(sweep.rows))),
        )
    console_for(table).print(table)


def listed_sweep_json(sweep: ListedSweep) -> dict[str, Any]:
    """What is printed of a sweep; mean IoU is in percent."""
    best = best_row(sweep.rows)
    return {
        "name": sweep.name,
        "planned_trials": sweep.planned,
        "finished_trials": sum(row.state.is_finished() for row in sweep.rows),
        "states": state_counts(sweep.rows),
        "best_trial": best.number if best else None,
        "best_miou": best.value if best else None,
    }


def _planned(storage: Path, name: str, ledger: str | None) -> int | None:
    try:
        sweep = read_spec(storage, name, ledger).sweep
    except UserError:
        return None
    assert sweep
    return sweep.trials
