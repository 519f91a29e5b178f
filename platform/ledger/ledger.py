"""The sweep's ledger: an Optuna study in a SQL database. One row is one trial number, one MLflow run, one directory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from ...trainers.errors import UserError
from ..spec.spec import Spec
from ..workers.account import Account
from .accounts import read_accounts, write_account
from .baseline import read_baseline, write_baseline
from .confirmations import Planned, plan_confirmations, read_confirmations, read_planned, write_confirmation
from .database import close_database
from .location import LOCATION, Location
from .ownership import Ownership
from .reopening import reopen_trial
from .rows import BASELINE_NUMBER, Row, ended
from .searches import Search, in_turn
from .study import ARM, GATE, REASON, row_of, rows_of
from .sweep_id import SWEEP_ID


class Ledger:
    """Hands out trials and holds what became of them. Every write is refused once another process owns the sweep."""

    def __init__(self, study: optuna.Study, database: RDBStorage, ownership: Ownership, spec: Spec) -> None:
        assert spec.sweep
        self.spec = spec
        self._study = study
        self._database = database
        self.sweep_id: str = study.user_attrs[SWEEP_ID]
        self.ownership = ownership
        self._trial_ids = {t.number: t._trial_id for t in study.get_trials(deepcopy=False)}
        self._searches = self._search()
        for row in self.rows():
            if row.state is TrialState.RUNNING:
                self._searches[row.arm].draw_what_is_missing(row, self._trial_ids[row.number])

    def hold_location(self, location: Location) -> None:
        """Hold where the sweep keeps its files and runs."""
        self._study.set_user_attr(LOCATION, asdict(location))

    def close(self) -> None:
        """Give the sweep up."""
        self.ownership.release()
        close_database(self._database)

    def trial_of(self, number: int) -> int | str:
        """What stands in the key of a trial: its number."""
        return number

    def number_of(self, trial: str) -> int:
        """The number of a trial, as its key has it."""
        return int(trial)

    def unfinished(self) -> list[int]:
        """Numbers of trials that were handed out and never finished, oldest first."""
        return [row.number for row in self.rows() if row.state is TrialState.RUNNING]

    def propose(self) -> int | None:
        """Open a new trial and return its number, or None when the budget, or a grid, is spent.

        Arms take turns.
        """
        trials = {arm: search.trials for arm, search in self._searches.items()}
        budgets = {arm: search.budget for arm, search in self._searches.items()}
        if all(trials[arm] >= budget for arm, budget in budgets.items()):
            return None
        # Nobody else asks this study. One that waits was entered by an owner that was killed, and has its number.
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        arm = waiting[0].user_attrs.get(ARM) if waiting else in_turn(trials, budgets)
        trial = self._searches[arm].ask()
        self._trial_ids[trial.number] = trial._trial_id
        return trial.number

    def report(self, number: int, step: int, value: float) -> tuple[Row, bool]:
        """Hold a trial's mean IoU at a step; the trial as it is then, and whether the study's pruner would stop it.

        A value that is held already stays. A finished trial takes no more.
        """
        trial = self._database.get_trial(self._trial_ids[number])
        if trial.state is TrialState.RUNNING and step not in trial.intermediate_values:
            self._database.set_trial_intermediate_value(trial._trial_id, step, value)
            trial.intermediate_values[step] = value
        row = row_of(trial, read_accounts(self._database.engine, self.sweep_id, [number]))
        return row, self._study.pruner.prune(self._searches[row.arm].study, trial)

    def note(self, number: int, account: Account) -> None:
        """Hold what a trial has cost; also after its end."""
        write_account(self._database.engine, self.sweep_id, self.ownership.epoch, number, account)

    def finish(self, number: int, state: TrialState, reason: str = "") -> None:
        """Close a trial; one that is closed already stays as it is.

        A trial cannot be COMPLETE without a finite value: it is then FAIL.
        """
        row = self.row(number)
        if row.state.is_finished():
            return
        state, reason = ended(row, state, reason)
        if reason != row.reason:  # A crash may have come between a reason and its end.
            self._database.set_trial_user_attr(self._trial_ids[number], REASON, reason)
        values = [row.value] if state is TrialState.COMPLETE and row.value is not None else None
        self._database.set_trial_state_values(self._trial_ids[number], state, values)

    def reopen(self, numbers: Sequence[int]) -> list[int]:
        """Hand failed trials out again, all or those of some numbers, and return which.

        What they have cost stays, but their losses are forgiven. Raises UserError for a number of no failed trial.
        """
        rows = {row.number: row for row in self.rows()}
        failed = [number for number, row in rows.items() if row.state is TrialState.FAIL]
        for number in numbers:
            if number not in failed:
                state = rows[number].state.name if number in rows else "not there"
                raise UserError(
                    f"trial {number} of sweep {self.spec.name} is {state}, but only failed ones are handed out again; "
                    f"failed: {', '.join(map(str, failed)) or 'none'}"
                )
        chosen = sorted(set(numbers)) or failed
        for number in chosen:
            self.note(number, replace(rows[number].account, lost=0))
            trial_id = self._trial_ids[number]
            reopen_trial(self._database.engine, self.sweep_id, self.ownership.epoch, trial_id)
        # Optuna's study keeps what it has read of finished trials.
        sampler, pruner = self._study.sampler, self._study.pruner
        self._study = optuna.load_study(
            study_name=self._study.study_name, storage=self._database, sampler=sampler, pruner=pruner
        )
        self._searches = self._search()
        return chosen

    def row(self, number: int) -> Row:
        """One trial."""
        trial = self._database.get_trial(self._trial_ids[number])
        return row_of(trial, read_accounts(self._database.engine, self.sweep_id, [number]))

    def trainer(self, number: int) -> Mapping[str, Any]:
        """The keys of a trial's trainer that say how large batches are, before any micro-batch was halved."""
        trainer, params = self.spec.trainer, self.row(number).params
        sizes = ("batch_size", "unlabelled_batch_size", "accumulation")
        return {key: params.get(f"trainer.{key}", getattr(trainer, key)) for key in sizes}

    def rows(self) -> list[Row]:
        """All trials that were handed out, by number; those of another sweep that the sampler learns from are not."""
        return rows_of(self._study, read_accounts(self._database.engine, self.sweep_id))

    def baseline(self) -> Row:
        """The supervised baseline."""
        accounts = read_accounts(self._database.engine, self.sweep_id, [BASELINE_NUMBER])
        return read_baseline(self._database.engine, self.sweep_id, accounts)

    def hold_baseline(self, row: Row) -> None:
        """Hold what became of the supervised baseline so far, and what it has cost."""
        self.note(BASELINE_NUMBER, row.account)
        write_baseline(self._database.engine, self.sweep_id, self.ownership.epoch, row)

    def confirmations(self) -> list[Row]:
        """The trainings on fresh seeds, as they were planned."""
        accounts = read_accounts(self._database.engine, self.sweep_id)
        return read_confirmations(self._database.engine, self.sweep_id, accounts)

    def planned(self) -> dict[int, Planned]:
        """What they train, by number."""
        return read_planned(self._database.engine, self.sweep_id)

    @property
    def gate(self) -> str | None:
        """What the gate has said, as JSON; None if it has not spoken."""
        return self._study.user_attrs.get(GATE)

    def hold_gate(self, gate: str) -> None:
        """Hold what the gate has said, as JSON."""
        self._study.set_user_attr(GATE, gate)

    def plan_confirmations(self, planned: Iterable[Planned]) -> None:
        """Enter trainings on fresh seeds; one whose name is there stays as it is."""
        plan_confirmations(self._database.engine, self.sweep_id, self.ownership.epoch, planned)

    def hold_confirmation(self, row: Row) -> None:
        """Hold what became of a training on a fresh seed so far."""
        write_confirmation(self._database.engine, self.sweep_id, self.ownership.epoch, row)

    def _search(self) -> dict[str | None, Search]:
        """By arm, as the study is now."""
        return {arm: Search(self._study, self._database, arm, spec) for arm, spec in self.spec.arms.items()}
