"""The checkpoints that nobody needs any more are removed, of all sweeps of a ledger or of some."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich import filesize
from rich.table import Table

from ..platform.base.keys import key_of, sweep_of
from ..platform.ledger.ledger import Ledger
from ..platform.ledger.opening import reopen_ledger
from ..platform.ledger.reading import read_spec, read_sweep, sweep_names
from ..platform.pages.terminal import console_for
from ..platform.registry.versions import registered_keys
from ..platform.spec.ledger_address import LEDGER
from ..platform.storage.store import Store
from ..platform.sweep.cleaning import Removal, removals, remove
from ..platform.sweep.epochs import newest_epoch
from ..platform.sweep.surplus import surplus_of
from ..platform.sweep.sync import storage_of
from ..platform.tracking.clients import Clients
from ..platform.tracking.noted import read_noted
from ..platform.tracking.patience import reason_of
from ..platform.workers.checkpoints import Held, held_checkpoints
from ..trainers.errors import UserError, listed


@dataclass(kw_only=True)
class Cleaned:
    """What came of it."""

    dry_run: bool
    """Whether nothing was removed."""
    removals: list[Removal] = field(default_factory=list)
    """What was removed, or would have been."""
    unknown: dict[str, Held] = field(default_factory=dict)
    """What is as a sweep's trainings are and in no row of the ledger, by key: it stays."""
    problems: list[str] = field(default_factory=list)
    """A line for each sweep, or place, of which not all was seen to."""

    @property
    def bytes(self) -> int:
        """Of all that was removed, or would have been."""
        return sum(removal.bytes for removal in self.removals)


@dataclass(frozen=True, kw_only=True)
class Cleaner:
    """Removes what the specs of sweeps do not keep."""

    clients: Clients
    store: Store
    ledger: str | None
    before: float
    """Only what was saved before that moment, in seconds since 1970."""
    dry_run: bool
    """Only say what would be removed."""
    say: Callable[[str], None]

    def clean(self, names: Sequence[str]) -> Cleaned:
        """Of sweeps of these names, or of all; one that somebody runs is told and left alone.

        Raises UserError for what is no sweep of the ledger.
        """
        if self.store.folder is None and self.ledger is None:
            raise UserError(f"the ledger of {self.store.address} is elsewhere: name it by --ledger or {LEDGER}")
        known = sweep_names(self.store.folder, self.ledger)
        if unknown := [name for name in names if name not in known]:
            raise UserError(f"there is no sweep {unknown[0]}; known sweeps: {', '.join(known) or 'none yet'}")
        cleaned = Cleaned(dry_run=self.dry_run)
        for name in names or known:
            with _by_itself(f"sweep {name}", cleaned.problems):
                self._clean(name, cleaned)
        if not names:
            with _by_itself("what no ledger knows", cleaned.problems):
                held = held_checkpoints(self.store)
                cleaned.unknown |= {key: found for key, found in held.items() if sweep_of(key) not in known}
        return cleaned

    def _clean(self, name: str, cleaned: Cleaned) -> None:
        with ExitStack() as stack:
            try:
                store = storage_of(name, self.store, self.ledger)
                owned = None if self.dry_run else stack.enter_context(closing(self._own(name, store)))
                record = read_sweep(store.folder, name, self.ledger)
                spec = owned.spec if owned else read_spec(store.folder, name, self.ledger)
                if self.dry_run and record.is_owned:
                    raise UserError(f"sweep {name} has an owner, who runs it or was killed while they did")
            except UserError as error:
                self.say(f"left alone: {error}")
                return
            # Not before the sweep is ours: until then its driver may register one of its trials.
            registered = registered_keys(self.clients.of(read_noted(store.at(name))))
            surplus = surplus_of(spec, record.rows, record.confirmations, registered)
            held = held_checkpoints(store, name)
            known = {key_of(name, row.trial) for row in (*record.rows, record.baseline, *record.confirmations)}
            cleaned.unknown |= {key: found for key, found in held.items() if key not in known}
            for removal in removals(surplus, held, self.before):
                if owned:
                    remove(owned, store, removal)
                cleaned.removals.append(removal)

    def _own(self, name: str, store: Store) -> Ledger:
        return reopen_ledger(store.folder, name, self.ledger, above=newest_epoch(store, name))


@contextmanager
def _by_itself(what: str, problems: list[str]) -> Iterator[None]:
    """Add a line to `problems` for what goes wrong, so that the others have their turn."""
    try:
        yield
    except Exception as error:
        problems.append(f"{what}: {reason_of(error)}")


def cleaned_json(cleaned: Cleaned) -> dict[str, Any]:
    """What is printed, as JSON."""
    return {
        "dry_run": cleaned.dry_run,
        "bytes": cleaned.bytes,
        "removed": [
            {"training": removal.surplus.key, "why": removal.surplus.why, "bytes": removal.bytes}
            for removal in cleaned.removals
        ],
        "unknown": [{"training": key, "bytes": found.bytes} for key, found in sorted(cleaned.unknown.items())],
    }


def print_cleaned(cleaned: Cleaned) -> None:
    """A line for each training whose checkpoints went, or would, with the bytes of all; and what is nobody's."""
    verb = "would be removed" if cleaned.dry_run else "removed"
    if cleaned.removals:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column("checkpoints of", no_wrap=True)
        table.add_column("size", justify="right", no_wrap=True)
        table.add_column("why")
        for removal in cleaned.removals:
            table.add_row(removal.surplus.key, filesize.decimal(removal.bytes), removal.surplus.why)
        console_for(table).print(table)
        count = len(cleaned.removals)
        whose = f"{count} {'training' if count == 1 else 'trainings'}"
        print(f"{filesize.decimal(cleaned.bytes)} {verb}: the checkpoints of {whose}")
    else:
        print(f"nothing {verb}")
    for key, found in sorted(cleaned.unknown.items()):
        print(f"left alone: {key}, {filesize.decimal(found.bytes)} of checkpoints, which no ledger read here knows")


def refuse_problems(cleaned: Cleaned) -> None:
    """Raise UserError, which names them, if there were any."""
    if cleaned.problems:
        raise UserError(listed(cleaned.problems, "what was to be cleaned"))
