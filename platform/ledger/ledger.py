"""The sweep's ledger: an Optuna study in a SQL database. One row is one trial number, one MLflow run, one directory."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from ...trainers.errors import UserError
from ..spec.errors import problems_of
from ..spec.ledger_address import shown
from ..spec.spec import Spec
from ..spec.sweep import Sweep
from ..workers.account import Account
from .accounts import read_accounts, write_account
from .database import close_database, exists, open_database, readable, reading
from .origin import FROM, Origin, inherit, refuse_changes
from .ownership import Owner, Ownership, claim, fence, owner_of
from .pruners import pruner_of
from .rows import Row
from .samplers import distributions_of, sampler_of, suggest

_SPEC = "advseg.spec"
_ORIGIN = "advseg.origin"
_BASE = "advseg.base"  # numbers below it are of inherited trials and first points
_INHERITED = "advseg.inherited"  # how many trials are another sweep's
_VERSION_0_DIGEST = "advseg.spec_digest"
_REASON = "advseg.reason"


class Ledger:
    """Hands out trials and holds what became of them. Every write is refused once another process owns the sweep."""

    def __init__(self, study: optuna.Study, database: RDBStorage, ownership: Ownership, spec: Spec) -> None:
        assert spec.sweep
        self.spec = spec
        self._study = study
        self._database = database
        self._study_id = database.get_study_id_from_name(study.study_name)
        self._sweep: Sweep = spec.sweep
        self._seed = spec.trainer.seed
        self._base = study.user_attrs[_BASE]
        self._inherited = study.user_attrs[_INHERITED]
        self.ownership = ownership
        self._space = distributions_of(self._sweep.space)
        self._trial_ids = {t.number: t._trial_id for t in study.get_trials(deepcopy=False)}
        self._opened = sum(t.state is not TrialState.WAITING for t in study.get_trials(deepcopy=False))
        self._draw_what_is_missing()

    def close(self) -> None:
        """Give the sweep up."""
        self.ownership.release()
        close_database(self._database)

    def unfinished(self) -> list[int]:
        """Numbers of trials that were handed out and never finished, oldest first."""
        return [row.number for row in self.rows() if row.state is TrialState.RUNNING]

    def propose(self) -> int | None:
        """Open a new trial and return its number, or None when the budget, or a grid, is spent."""
        # Nobody else asks this study: trials are numbered in the order in which we open them.
        number = self._opened
        if number - self._inherited >= self._sweep.trials or not self._take_sampler_for(number):
            return None
        trial = self._study.ask(self._space)
        assert trial.number == number, "another process asks the same study"
        self._trial_ids[number] = trial._trial_id
        self._opened += 1
        return number

    def report(self, number: int, step: int, value: float) -> None:
        """Hold a trial's mean IoU at a step; one that is held already stays. A finished trial takes no more."""
        row = self.row(number)
        if row.state is TrialState.RUNNING and step not in row.curve:
            self._database.set_trial_intermediate_value(self._trial_ids[number], step, value)

    def should_prune(self, number: int) -> bool:
        """Whether the study's pruner would stop a trial now."""
        return self._study.pruner.prune(self._study, self._database.get_trial(self._trial_ids[number]))

    def note(self, number: int, account: Account) -> None:
        """Hold what a trial has cost; also after its end."""
        write_account(self._database.engine, self._study_id, self.ownership.epoch, number, account)

    def finish(self, number: int, state: TrialState, reason: str = "") -> None:
        """Close a trial; one that is closed already stays as it is.

        A trial cannot be COMPLETE without a finite value: it is then FAIL.
        """
        row = self.row(number)
        if row.state.is_finished():
            return
        if state is TrialState.COMPLETE and (row.value is None or not math.isfinite(row.value)):
            state, reason = TrialState.FAIL, f"bad value: {row.value}"
        if reason != row.reason:  # A crash may have come between a reason and its end.
            self._database.set_trial_user_attr(self._trial_ids[number], _REASON, reason)
        values = [row.value] if state is TrialState.COMPLETE and row.value is not None else None
        self._database.set_trial_state_values(self._trial_ids[number], state, values)

    def row(self, number: int) -> Row:
        """One trial."""
        trial = self._database.get_trial(self._trial_ids[number])
        return _row(trial, read_accounts(self._database.engine, self._study_id, [number]))

    def rows(self) -> list[Row]:
        """All trials that were handed out, by number; those of another sweep that the sampler learns from are not."""
        return _own_rows(self._study, self._database)

    def _take_sampler_for(self, number: int) -> bool:
        """Put the sampler of a trial in place; False if it has no more points."""
        if number < self._base:
            return True  # A first point, which waits in the study.
        sampler = sampler_of(self._sweep, self._seed, number, number - self._base)
        if sampler is not None:
            self._study.sampler = sampler
        return sampler is not None

    def _draw_what_is_missing(self) -> None:
        """Complete the points of trials that a crash cut off while they were drawn, value after value."""
        for row in self.rows():
            if row.state is TrialState.RUNNING and row.params.keys() != self._space.keys():
                self._take_sampler_for(row.number)
                trial = optuna.Trial(self._study, self._trial_ids[row.number])
                for key, distribution in self._space.items():
                    suggest(trial, key, distribution)


def open_ledger(storage: Path, spec: Spec, origin: Origin, owner: Owner | None = None) -> Ledger:
    """Become the owner of a sweep's study, or begin it.

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
            ownership = _own(database, spec.name, owner or Owner.here())
        undone.callback(ownership.release)
        _begin_or_compare(study, database, _place(storage, spec.ledger), spec, origin)
        ledger = Ledger(study, database, ownership, spec)
        undone.pop_all()
    return ledger


def reopen_ledger(storage: Path, sweep: str, ledger: str | None = None) -> Ledger:
    """Become the owner of a sweep as it is, to say what became of its trials, whatever this machine has of its data.

    Raises UserError if there is no such sweep, another process owns it, or its spec is another version's.
    """
    with ExitStack() as undone:
        database = open_database(storage, ledger)
        undone.callback(close_database, database)
        with readable(storage, ledger):
            study = _load(database, sweep, _place(storage, ledger))
            spec = _spec_of(study)
            ownership = _own(database, sweep, Owner.here())
        undone.callback(ownership.release)
        reopened = Ledger(study, database, ownership, spec)
        undone.pop_all()
    return reopened


def _own(database: RDBStorage, sweep: str, owner: Owner) -> Ownership:
    """Take a sweep over, and fence out whoever had it before."""
    study_id = database.get_study_id_from_name(sweep)
    epoch = claim(database.engine, study_id, sweep, owner)
    fence(database, study_id, epoch)
    return Ownership(database.engine, study_id, epoch)


def _begin_or_compare(study: optuna.Study, database: RDBStorage, place: str, spec: Spec, origin: Origin) -> None:
    assert spec.sweep
    attrs = study.user_attrs
    if _SPEC in attrs:
        refuse_changes(spec, _spec_of(study), origin, Origin(**attrs[_ORIGIN]))
    elif _VERSION_0_DIGEST in attrs:
        if attrs[_VERSION_0_DIGEST] != spec.digest():
            raise UserError(
                f"sweep {spec.name} was begun with another spec, by a version of advseg that kept its digest only: "
                f"submit the old one to go on with it, or choose another name, as in --set name={spec.name}-2"
            )
        study.set_user_attr(_BASE, len(spec.sweep.first))
        study.set_user_attr(_INHERITED, 0)
    else:
        # A crash may have come after any of these lines: what is there already stays, and the rest follows it.
        waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if spec.sweep.fork and not waiting:
            _fork(study, database, place, spec, origin)
        for point in spec.sweep.first[len(waiting) :]:
            study.enqueue_trial(dict(point))
        trials = study.get_trials(deepcopy=False)
        study.set_user_attr(_BASE, len(trials))
        study.set_user_attr(_INHERITED, sum(FROM in t.user_attrs for t in trials))
    study.set_user_attr(_ORIGIN, asdict(origin))
    # Last: a sweep that has it was begun wholly. Written again, so that a raised budget is the one that is resumed.
    study.set_user_attr(_SPEC, spec.model_dump(mode="json"))


def _fork(study: optuna.Study, database: RDBStorage, place: str, spec: Spec, origin: Origin) -> None:
    """Let the sampler of a new sweep learn from the finished trials of another."""
    assert spec.sweep and spec.sweep.fork
    source = _load(database, spec.sweep.fork, place)
    attrs = source.user_attrs
    if _SPEC not in attrs:
        raise UserError(f"sweep.fork names {spec.sweep.fork}, which was never begun by this version of advseg: run it")
    inherit(study, spec, source, _spec_of(source), origin, Origin(**attrs[_ORIGIN]))


def _spec_of(study: optuna.Study) -> Spec:
    """The spec that a sweep was begun with. Raises UserError if this version does not understand it."""
    if _SPEC not in study.user_attrs:
        raise UserError(
            f"sweep {study.study_name} was begun by an older version of advseg: submit its spec to go on with it"
        )
    document = study.user_attrs[_SPEC]
    try:
        return Spec.model_validate(document)
    except ValidationError as error:
        raise UserError(
            f"sweep {study.study_name} holds a spec that this version of advseg does not read "
            f"({problems_of(error, Spec, document)[0]}): go on with the version that wrote it"
        ) from None


def read_rows(storage: Path, sweep: str, ledger: str | None = None) -> list[Row]:
    """The trials of a sweep, read without its spec. Raises UserError if there is no such sweep."""
    with _reading(storage, sweep, ledger) as (study, database):
        return _own_rows(study, database)


def read_spec(storage: Path, sweep: str, ledger: str | None = None) -> Spec:
    """The spec that a sweep was last run with. Raises UserError if there is none, or one of another version."""
    with _reading(storage, sweep, ledger) as (study, _):
        return _spec_of(study)


def abandoned_sweeps(storage: Path, ledger: str | None = None) -> list[str]:
    """Sweeps whose owner has ended without giving them up: on this machine, for of others nothing is known."""
    if not exists(storage, ledger):
        return []
    with reading(storage, ledger) as database:
        owners = {
            name: owner_of(database.engine, database.get_study_id_from_name(name))
            for name in optuna.get_all_study_names(database)
        }
    return [name for name, owner in owners.items() if owner is not None and owner.is_gone()]


def sweep_names(storage: Path, ledger: str | None = None) -> list[str]:
    """All sweeps of a ledger, in the order of their beginning."""
    if not exists(storage, ledger):
        return []
    with reading(storage, ledger) as database:
        return optuna.get_all_study_names(database)


@contextmanager
def _reading(storage: Path, sweep: str, ledger: str | None) -> Iterator[tuple[optuna.Study, RDBStorage]]:
    place = _place(storage, ledger)
    if not exists(storage, ledger):
        raise UserError(f"there is no sweep {sweep} in {place}; known sweeps: none yet")
    with reading(storage, ledger) as database:
        yield _load(database, sweep, place), database


def _load(database: RDBStorage, sweep: str, place: str) -> optuna.Study:
    names = optuna.get_all_study_names(database)
    if sweep not in names:
        raise UserError(f"there is no sweep {sweep} in {place}; known sweeps: {', '.join(names) or 'none yet'}")
    return optuna.load_study(study_name=sweep, storage=database)


def _place(storage: Path, ledger: str | None) -> str:
    return str(storage) if ledger is None else shown(ledger)


def _own_rows(study: optuna.Study, database: RDBStorage) -> list[Row]:
    accounts = read_accounts(database.engine, database.get_study_id_from_name(study.study_name))
    trials = study.get_trials(deepcopy=False)
    return [_row(t, accounts) for t in trials if t.state is not TrialState.WAITING and FROM not in t.user_attrs]


def _row(trial: FrozenTrial, accounts: Mapping[int, Account]) -> Row:
    return Row(
        number=trial.number,
        params=dict(trial.params),
        state=trial.state,
        reason=trial.user_attrs.get(_REASON, ""),
        curve=dict(sorted(trial.intermediate_values.items())),
        account=accounts.get(trial.number, Account()),
    )
