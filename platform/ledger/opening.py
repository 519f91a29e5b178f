"""Becoming the owner of a sweep: it is begun, or gone on with if it is still the same."""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.storages import RDBStorage

from ...trainers.errors import UserError
from ..spec.spec import Spec
from .database import close_database, open_database, readable
from .ledger import Ledger
from .origin import Origin, inherit, refuse_changes
from .ownership import Owner, Ownership, claim, fence
from .patience import patiently
from .pruners import pruner_of
from .study import ORIGIN, SPEC, VERSION_0_DIGEST, load_study, place_of, spec_of
from .sweep_id import SWEEP_ID, ensure_sweep_id


def open_ledger(
    storage: Path | None, spec: Spec, origin: Origin, owner: Owner | None = None, *, above: int = 0
) -> Ledger:
    """Become the owner of a sweep's study, or begin it, in an epoch above one that was seen elsewhere.

    Raises UserError if another process owns it, if it was begun with another spec, other data or other code, or if
    the sweep that it is to learn from does not fit.
    """
    assert spec.sweep
    with ExitStack() as undone:
        database = open_database(storage, spec.ledger)
        undone.callback(close_database, database)
        with readable(storage, spec.ledger):
            study = optuna.create_study(
                study_name=spec.name,
                storage=database,
                direction="maximize",
                pruner=pruner_of(spec.sweep.pruner, spec.trainer.steps),
                load_if_exists=True,
            )
            ownership = _own(database, spec.name, owner or Owner.here(), above)
        undone.callback(ownership.release)
        try:
            _begin_or_compare(study, database, place_of(storage, spec.ledger), spec, origin)
        except UserError:
            if study.user_attrs.keys() <= {SWEEP_ID}:
                # It never began, and nobody is to find it.
                database.delete_study(database.get_study_id_from_name(spec.name))
            raise
        ledger = Ledger(study, database, ownership, spec)
        undone.pop_all()
    return ledger


def reopen_ledger(storage: Path | None, sweep: str, ledger: str | None = None, *, above: int = 0) -> Ledger:
    """Become the owner of a sweep as it is, to say what became of its trials, whatever this machine has of its data.

    Raises UserError if there is no such sweep, another process owns it, or its spec is another version's.
    """
    with ExitStack() as undone:
        database = open_database(storage, ledger)
        undone.callback(close_database, database)
        with readable(storage, ledger):
            study = load_study(database, sweep, place_of(storage, ledger))
            spec = spec_of(study)
            ownership = _own(database, sweep, Owner.here(), above)
        undone.callback(ownership.release)
        reopened = Ledger(study, database, ownership, spec)
        undone.pop_all()
    return reopened


def _own(database: RDBStorage, sweep: str, owner: Owner, above: int) -> Ownership:
    """Take a sweep over, and fence out whoever had it before."""
    study_id = database.get_study_id_from_name(sweep)

    def identify() -> str:
        with database.engine.begin() as connection:
            return ensure_sweep_id(connection, study_id)

    sweep_id = patiently(identify)
    epoch = claim(database.engine, sweep_id, sweep, owner, above=above)
    fence(database, sweep_id, epoch)
    return Ownership(database.engine, sweep_id, epoch)


def _begin_or_compare(study: optuna.Study, database: RDBStorage, place: str, spec: Spec, origin: Origin) -> None:
    assert spec.sweep
    attrs = study.user_attrs
    if SPEC in attrs:
        refuse_changes(spec, spec_of(study), origin, Origin(**attrs[ORIGIN]))
    elif VERSION_0_DIGEST in attrs:
        raise UserError(
            f"sweep {spec.name} was begun by a version of advseg whose specs this one does not read: go on with that "
            f"version, or choose another name, as in --set name={spec.name}-2"
        )
    elif spec.sweep.fork:
        # A crash may have come in the midst of it: what is there already stays, and the rest follows it.
        _fork(study, database, place, spec, origin)
    study.set_user_attr(ORIGIN, asdict(origin))
    # Last: a sweep that has it was begun wholly. Written again, so that a raised budget is the one that is resumed.
    study.set_user_attr(SPEC, spec.model_dump(mode="json"))


def _fork(study: optuna.Study, database: RDBStorage, place: str, spec: Spec, origin: Origin) -> None:
    """Let the sampler of a new sweep learn from the finished trials of another."""
    assert spec.sweep and spec.sweep.fork
    source = load_study(database, spec.sweep.fork, place)
    attrs = source.user_attrs
    if SPEC not in attrs:
        raise UserError(f"sweep.fork names {spec.sweep.fork}, which was never begun by this version of advseg: run it")
    inherit(study, spec, source, spec_of(source), origin, Origin(**attrs[ORIGIN]))
