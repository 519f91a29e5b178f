"""Tune asks the ledger: which trial next, whether to go on with one, and what became of it."""

import math
from collections.abc import Callable
from typing import Any, cast

from optuna.trial import TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from .events import TrialUpdate, emit
from .keys import key_of
from .ledger import Ledger, Row
from .report_keys import FAILURE, METRIC, NUMBER, STEP


class LedgerSearcher(Searcher):
    """Proposes unfinished trials of the ledger first, then new ones until the budget is spent."""

    def __init__(self, ledger: Ledger, watch: "TrialWatch") -> None:
        super().__init__(metric=METRIC, mode="max")
        self._ledger = ledger
        self._watch = watch
        self._unfinished = ledger.unfinished()
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The configuration of one trial: its number and parameters."""
        number = self._unfinished.pop(0) if self._unfinished else self._ledger.propose()
        if number is None:
            return cast("None", Searcher.FINISHED)
        self._numbers[trial_id] = number
        row = self._watch.changed(number)
        return {NUMBER: number, "params": row.params}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Close the trial in the ledger, unless the scheduler has done so."""
        number = self._numbers.pop(trial_id)
        if error:
            self._ledger.finish(number, TrialState.FAIL, "its worker process died")
        else:
            self._ledger.finish(number, TrialState.COMPLETE)
        self._watch.changed(number)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger holds it all, and nothing is pickled."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger holds it all, and nothing is unpickled."""


class LedgerScheduler(FIFOScheduler):
    """Writes each report to the ledger and stops the trials that its pruner gives up."""

    def __init__(self, ledger: Ledger, watch: "TrialWatch", steps: int) -> None:
        super().__init__()
        self._ledger = ledger
        self._watch = watch
        self._steps = steps

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """CONTINUE or STOP."""
        number = trial.config[NUMBER]
        if FAILURE in result:
            self._ledger.finish(number, TrialState.FAIL, result[FAILURE])
            return TrialScheduler.STOP
        step = result[STEP]
        self._ledger.report(number, step, result[METRIC])
        verdict = TrialScheduler.CONTINUE
        if not math.isfinite(result[METRIC]):
            # The pruner would call it merely not among the best.
            self._ledger.finish(number, TrialState.FAIL, f"bad value: {result[METRIC]}")
            verdict = TrialScheduler.STOP
        # After the last step there is nothing to save by stopping, and the trial has earned its value.
        elif step < self._steps and self._ledger.should_prune(number):
            self._ledger.finish(number, TrialState.PRUNED, f"not among the best at step {step}")
            verdict = TrialScheduler.STOP
        self._watch.changed(number)
        return verdict


class TrialWatch:
    """Tells followers of every change of a trial."""

    def __init__(self, ledger: Ledger, sweep: str, steps: int, tell: Callable[[TrialUpdate], None] = emit) -> None:
        self._ledger = ledger
        self._sweep = sweep
        self._steps = steps
        self._tell = tell

    def changed(self, number: int) -> Row:
        """Read a trial's row, tell it, and return it."""
        row = self._ledger.row(number)
        self._tell(update_of(row, self._sweep, self._steps))
        return row


def update_of(row: Row, sweep: str, steps: int) -> TrialUpdate:
    """A ledger row as followers see it."""
    return TrialUpdate(
        key=key_of(sweep, row.number),
        state=row.state.name,
        params=row.params,
        step=max(row.curve, default=0),
        steps=steps,
        miou=row.value,
        reason=row.reason,
    )
