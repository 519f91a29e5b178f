"""The sweep's ledger: an Optuna study in a SQL database. One row is one trial number, one MLflow run, one directory."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ..trainers.errors import UserError
from .spec import Pruner, Spec, Sweep

_SPEC_DIGEST = "advseg.spec_digest"
_REASON = "advseg.reason"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial as the ledger knows it."""

    number: int
    params: dict[str, float]
    state: TrialState
    reason: str
    """Why it failed or was stopped; empty otherwise."""
    curve: dict[int, float]
    """Mean IoU in percent by step."""

    @property
    def value(self) -> float | None:
        """The newest mean IoU in percent, None before the first report."""
        return self.curve[max(self.curve)] if self.curve else None


class Ledger:
    """Hands out trials and holds what became of them."""

    def __init__(self, study: optuna.Study, storage: RDBStorage, sweep: Sweep, seed: int) -> None:
        self._study = study
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(study.study_name)
        self._sweep = sweep
        self._seed = seed
        # Sorted, for the sampler draws one value after the other and a spec's digest knows no order of keys.
        self._space: dict[str, BaseDistribution] = {
            key: FloatDistribution(r.low, r.high, log=r.log) for key, r in sorted(sweep.space.items())
        }
        self._draw_what_is_missing()

    def unfinished(self) -> list[int]:
        """Numbers of trials that were handed out and never finished, oldest first."""
        return [row.number for row in self.rows() if row.state is TrialState.RUNNING]

    def propose(self) -> int | None:
        """Open a new trial and return its number, or None when the budget of trials is spent."""
        trials = self._study.get_trials(deepcopy=False)
        waiting = [t.number for t in trials if t.state is TrialState.WAITING]
        number = min(waiting, default=len(trials))
        if number >= self._sweep.trials:
            return None
        self._seed_for(number)
        trial = self._study.ask(self._space)
        assert trial.number == number, "another process asks the same study"
        return number

    def report(self, number: int, step: int, value: float) -> None:
        """Hold a trial's mean IoU at a step; one that is held already stays. A finished trial takes no more."""
        row = self.row(number)
        if row.state is TrialState.RUNNING and step not in row.curve:
            self._storage.set_trial_intermediate_value(self._trial_id(number), step, value)

    def should_prune(self, number: int) -> bool:
        """Whether the study's pruner would stop a trial now."""
        return self._study.pruner.prune(self._study, self._storage.get_trial(self._trial_id(number)))

    def finish(self, number: int, state: TrialState, reason: str = "") -> None:
        """Close a trial; one that is closed already stays as it is.

        A trial cannot be COMPLETE without a finite value: it is then FAIL.
        """
        row = self.row(number)
        if row.state.is_finished():
            return
        if state is TrialState.COMPLETE and (row.value is None or not math.isfinite(row.value)):
            state, reason = TrialState.FAIL, f"bad value: {row.value}"
        if reason:
            self._storage.set_trial_user_attr(self._trial_id(number), _REASON, reason)
        self._study.tell(number, row.value if state is TrialState.COMPLETE else None, state)

    def row(self, number: int) -> Row:
        """One trial."""
        return _row(self._storage.get_trial(self._trial_id(number)))

    def rows(self) -> list[Row]:
        """All trials that were handed out, by number."""
        trials = self._study.get_trials(deepcopy=False)
        return [_row(t) for t in trials if t.state is not TrialState.WAITING]

    def _seed_for(self, number: int) -> None:
        # The seed belongs to the trial, not to the process that asks: a sampler made anew with one
        # seed would propose its earlier points again.
        self._study.sampler = _sampler(self._sweep, seed_of(self._seed, number))

    def _draw_what_is_missing(self) -> None:
        """Complete the points of trials that a crash cut off while they were drawn, value after value."""
        for row in self.rows():
            if row.state is TrialState.RUNNING and row.params.keys() != self._space.keys():
                self._seed_for(row.number)
                trial = optuna.Trial(self._study, self._trial_id(row.number))
                for key in self._space:
                    asked = self._sweep.space[key]
                    trial.suggest_float(key, asked.low, asked.high, log=asked.log)

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def open_ledger(storage: Path, spec: Spec) -> Ledger:
    """Open the study of a sweep, or begin it. Raises UserError if it was begun with another spec."""
    assert spec.sweep
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage.mkdir(parents=True, exist_ok=True)
    with _readable(storage):
        database = RDBStorage(ledger_url(storage))
        study = optuna.create_study(
            study_name=spec.name,
            storage=database,
            direction="maximize",
            pruner=_pruner(spec.sweep.pruner),
            load_if_exists=True,
        )
    digest = study.user_attrs.get(_SPEC_DIGEST)
    if digest is None:
        for point in spec.sweep.first:
            study.enqueue_trial(dict(point), skip_if_exists=True)
        study.set_user_attr(_SPEC_DIGEST, spec.digest())
    elif digest != spec.digest():
        raise UserError(
            f"sweep {spec.name} was begun with another spec: submit the old one to go on with it, "
            f"or choose another name, as in --set name={spec.name}-2"
        )
    return Ledger(study, database, spec.sweep, spec.trainer.seed)


def read_rows(storage: Path, sweep: str) -> list[Row]:
    """The trials of a sweep, read without its spec. Raises UserError if there is no such sweep."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with _readable(storage):
        names = optuna.get_all_study_names(ledger_url(storage)) if ledger_file(storage).exists() else []
    if sweep not in names:
        known = ", ".join(names) or "none yet"
        raise UserError(f"there is no sweep {sweep} in {storage}; known sweeps: {known}")
    study = optuna.load_study(study_name=sweep, storage=ledger_url(storage))
    return [_row(t) for t in study.get_trials(deepcopy=False) if t.state is not TrialState.WAITING]


@contextmanager
def _readable(storage: Path) -> Iterator[None]:
    """Turn what a damaged database raises into a UserError."""
    try:
        yield
    except SQLAlchemyError as error:
        raise UserError(
            f"ledger {ledger_file(storage)} cannot be read ({str(error).splitlines()[0]}): restore or move it"
        ) from None


def ledger_file(storage: Path) -> Path:
    """Where the SQLite database lies."""
    return storage / "ledger.db"


def ledger_url(storage: Path) -> str:
    """The database as SQLAlchemy names it."""
    return f"sqlite:///{ledger_file(storage)}"


def best_row(rows: Sequence[Row]) -> Row | None:
    """The complete trial of the highest mean IoU; of equals the first."""
    complete = [row for row in rows if row.state is TrialState.COMPLETE and row.value is not None]
    return max(complete, key=lambda row: (row.value or 0.0, -row.number), default=None)


def beats(best_miou: float | None, baseline_miou: float | None) -> bool:
    """Whether a mean IoU is better than the baseline's; nothing beats a baseline that is not there."""
    return best_miou is not None and baseline_miou is not None and best_miou > baseline_miou


def seed_of(seed: int, number: int) -> int:
    """The sampler's seed, below 2**32, for a trial of a sweep."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "little")


def _row(trial: FrozenTrial) -> Row:
    return Row(
        number=trial.number,
        params=_floats(trial.params),
        state=trial.state,
        reason=trial.user_attrs.get(_REASON, ""),
        curve=dict(sorted(trial.intermediate_values.items())),
    )


def _floats(params: Mapping[str, float]) -> dict[str, float]:
    return {key: float(value) for key, value in params.items()}


def _sampler(sweep: Sweep, seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=sweep.sampler.startup_trials)


def _pruner(pruner: Pruner | None) -> optuna.pruners.BasePruner:
    if pruner is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=pruner.min_resource, reduction_factor=pruner.reduction_factor
    )
