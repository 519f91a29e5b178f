"""What `advseg sweeps` prints."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from ..ledger.reading import SweepRecord, read_sweeps
from ..spec.ledger_address import shown
from .terminal import percent, states


def print_sweeps(storage: Path, ledger: str | None = None) -> None:
    """A line for each sweep of a ledger, in the order of their beginning."""
    records = read_sweeps(storage, ledger)
    if not records:
        place = storage if ledger is None else shown(ledger)
        print(f"no sweep in {place} yet: `advseg submit SPEC` begins one")
        return
    table = Table("sweep")
    for heading in ("trials", "best mIoU", "best trial"):
        table.add_column(heading, justify="right")
    table.add_column("states")
    for record in records:
        table.add_row(record.name, *_cells(record))
    Console().print(table)


def _cells(record: SweepRecord) -> tuple[str, ...]:
    done = sum(row.state.is_finished() for row in record.rows)
    # How many an older version's sweep may make is not known.
    planned = record.spec.sweep.trials if record.spec and record.spec.sweep else "?"
    best = record.verdict.best
    return (
        f"{done}/{planned}",
        percent(best.value if best else None),
        str(best.number) if best else "-",
        states(record.rows),
    )
