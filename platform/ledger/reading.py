"""Reading sweeps, without their right to write; a spec of another version is no obstacle."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from optuna.storages import RDBStorage

from ...trainers.errors import UserError
from ..spec.ledger_address import ELSEWHERE
from ..spec.spec import Spec
from .accounts import accounts_from
from .baseline import baseline_from
from .confirmations import confirmations_from
from .database import reading
from .location import LOCATION, Location
from .ownership import owner_from
from .rows import Row, Verdict, verdict_of
from .schema import ACCOUNTS, BASELINES, CONFIRMATIONS, OWNERS, Held
from .study import GATE, ORIGIN, load_study, place_of, rows_of, spec_of
from .sweep_id import SWEEP_ID


@dataclass(frozen=True, kw_only=True)
class SweepRecord:
    """All that the ledger holds of a sweep."""

    name: str
    rows: Sequence[Row]
    """Its trials, by number."""
    baseline: Row
    spec: Spec | None
    """As it was last run; None if an older version of advseg began it."""
    dataset: str | None
    """Digest of what it trains on; None of one that never began."""
    is_owned: bool
    """Whether somebody runs it, or was killed while it did."""
    confirmations: Sequence[Row] = ()
    """Trainings on fresh seeds, of its best trials and of those that they are compared with."""
    gate: str | None = None
    """What the gate has said of its best trials, as JSON; None if it has not spoken."""

    @property
    def verdict(self) -> Verdict:
        """Its best trial against its baseline."""
        return verdict_of(self.rows, self.baseline)


def read_sweep(storage: Path | None, sweep: str, ledger: str | None = None) -> SweepRecord:
    """What the ledger holds of a sweep. Raises UserError if there is no such sweep."""
    with _opened(storage, sweep, ledger) as (study, database):
        return _record(study, database)


def read_sweeps(storage: Path | None, ledger: str | None = None) -> list[SweepRecord]:
    """What a ledger holds, in the order in which its sweeps began."""
    with reading(storage, ledger) as database:
        if database is None:
            return []
        names = optuna.get_all_study_names(database)
        return [_record(optuna.load_study(study_name=name, storage=database), database) for name in names]


def read_spec(storage: Path | None, sweep: str, ledger: str | None = None) -> Spec:
    """The spec that a sweep was last run with. Raises UserError if there is none, or one of another version."""
    with _opened(storage, sweep, ledger) as (study, _):
        return spec_of(study)


def sweep_id_of(storage: Path | None, sweep: str, ledger: str | None = None) -> str | None:
    """The id of a sweep; None if it has not begun."""
    with reading(storage, ledger) as database:
        studies = database.get_all_studies() if database else []
        return next((s.user_attrs.get(SWEEP_ID) for s in studies if s.study_name == sweep), None)


def read_location(sweep: str, ledger: str | None) -> Location | None:
    """Where a sweep keeps its files and runs; None if it has not begun, or a version that did not hold it began it.

    None also in SQLite, which lies in the very storage and is copied and moved with it.
    """
    if ledger is None:
        return None
    with reading(None, ledger) as database:
        studies = database.get_all_studies() if database else []
        held = next((s.user_attrs.get(LOCATION) for s in studies if s.study_name == sweep), None)
    return Location(**held) if held else None


def sweep_names(storage: Path | None, ledger: str | None = None) -> list[str]:
    """All sweeps of a ledger, in the order of their beginning."""
    with reading(storage, ledger) as database:
        return optuna.get_all_study_names(database) if database else []


def abandoned_sweeps(storage: Path | None, ledger: str | None = None) -> list[str]:
    """Sweeps whose owner has ended on this machine without giving them up, or may have before it went down.

    Whoever takes such a sweep waits for a sign of life first.
    """
    with reading(storage, ledger) as database:
        if database is None:
            return []
        with database.engine.connect() as connection:
            held = Held(connection)
            owners = {
                study.study_name: owner_from(held.of(OWNERS, study._study_id, study.user_attrs.get(SWEEP_ID)))
                for study in database.get_all_studies()
            }
    return [name for name, owner in owners.items() if owner is not None and owner.may_be_gone()]


def _record(study: optuna.Study, database: RDBStorage) -> SweepRecord:
    attrs = study.user_attrs
    key = (study._study_id, attrs.get(SWEEP_ID))
    with database.engine.connect() as connection:
        held = Held(connection)
        accounts = accounts_from(held.of(ACCOUNTS, *key))
        baselines, owners = held.of(BASELINES, *key), held.of(OWNERS, *key)
        confirmations = held.of(CONFIRMATIONS, *key)
    owner = owner_from(owners)
    try:
        spec = spec_of(study)
    except UserError:
        spec = None
    is_owned = owner is not None and not owner.may_be_gone()
    baseline = baseline_from(baselines[0] if baselines else None, accounts)
    return SweepRecord(
        name=study.study_name,
        rows=[replace(row, stopped=not is_owned) for row in rows_of(study, accounts)],
        baseline=replace(baseline, stopped=not is_owned),
        confirmations=[replace(row, stopped=not is_owned) for row in confirmations_from(confirmations, accounts)],
        gate=attrs.get(GATE),
        spec=spec,
        dataset=attrs.get(ORIGIN, {}).get("dataset"),
        is_owned=is_owned,
    )


@contextmanager
def _opened(storage: Path | None, sweep: str, ledger: str | None) -> Iterator[tuple[optuna.Study, RDBStorage]]:
    place = place_of(storage, ledger)
    with reading(storage, ledger) as database:
        if database is None:
            elsewhere = "" if ledger else f"; {ELSEWHERE}"
            raise UserError(f"there is no sweep {sweep} in {place}; known sweeps: none yet{elsewhere}")
        yield load_study(database, sweep, place), database
