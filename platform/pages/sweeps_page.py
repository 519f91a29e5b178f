"""What `advseg sweeps` prints."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ...trainers.errors import UserError
from ..ledger.ledger import read_rows, read_spec, sweep_names
from ..ledger.rows import Row, best_row
from ..spec.ledger_address import shown
from .terminal import percent, states


def print_sweeps(storage: Path, ledger: str | None = None) -> None:
    """A line for each sweep of a ledger, in the order of their beginning."""
    names = sweep_names(storage, ledger)
    if not names:
        place = storage if ledger is None else shown(ledger)
        print(f"no sweep in {place} yet: `advseg submit SPEC` begins one")
        return
    table = Table("sweep")
    for heading in ("trials", "best mIoU", "best trial"):
        table.add_column(heading, justify="right")
    table.add_column("states")
    for name in names:
        table.add_row(name, *_cells(read_rows(storage, name, ledger), _planned(storage, name, ledger)))
    Console().print(table)


def _cells(rows: Sequence[Row], planned: str) -> tuple[str, ...]:
    done = sum(row.state.is_finished() for row in rows)
    best = best_row(rows)
    return (
        f"{done}/{planned}",
        percent(best.value if best else None),
        str(best.number) if best else "-",
        states(rows),
    )


def _planned(storage: Path, name: str, ledger: str | None) -> str:
    """The trials that a sweep may make; unknown of one that an older version of advseg began."""
    try:
        sweep = read_spec(storage, name, ledger).sweep
    except UserError:
        return "?"
    assert sweep
    return str(sweep.trials)
