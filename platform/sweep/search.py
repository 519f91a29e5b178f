"""Ray Tune asks the ledger: which trial next, whether to go on with one, and what became of it."""

from typing import Any, cast

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from ...trainers.errors import FencedError
from ..base.keys import ARM, ATTEMPT, FAILURE, HALVINGS, KIND, METRIC, NUMBER, PARAMS, STEP
from ..workers.retry import Failure, Kind
from .attempts import Attempts


class LedgerSearcher(Searcher):
    """Proposes what the ledger hands out, and closes what Tune has ended."""

    def __init__(self, attempts: Attempts) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._attempts = attempts
        self._numbers: dict[str, int] = {}
        self._condemned: dict[int, Failure] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The configuration of one attempt."""
        row = self._attempts.next()
        if row is None:
            # Tune asks no more once it has heard FINISHED: what still runs may break and come back. With nothing that
            # runs it would wait here, deaf to signals.
            return cast("None", Searcher.FINISHED) if self._attempts.is_idle else None
        self._numbers[trial_id] = row.number
        account = row.account
        return {
            NUMBER: row.number,
            ARM: row.arm,
            PARAMS: row.params,
            ATTEMPT: account.attempts,
            HALVINGS: account.halvings,
        }

    def condemn(self, number: int, failure: Failure) -> None:
        """Say why the process of an attempt is about to be killed."""
        self._condemned[number] = failure

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Close the attempt, unless the scheduler has done so."""
        number = self._numbers.pop(trial_id)
        condemned = self._condemned.pop(number, None)
        if error:
            self._attempts.fail(number, condemned or self._attempts.lost(number))
        elif result and result.get("done"):
            self._attempts.complete(number)
        # Else an interrupt ends the search, and the trial stays as it is for the next one.

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger holds it all, and nothing is pickled."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger holds it all, and nothing is unpickled."""


class LedgerScheduler(FIFOScheduler):
    """Writes each report to the ledger and stops the trials that its pruner gives up."""

    def __init__(self, attempts: Attempts, searcher: LedgerSearcher) -> None:
        super().__init__()
        self._attempts = attempts
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """CONTINUE or STOP."""
        number = trial.config[NUMBER]
        if FAILURE in result:
            failure = Failure(kind=Kind(result[KIND]), text=result[FAILURE])
            if failure.kind is Kind.FENCED:
                # Its lease is a newer driver's, whatever the ledger says.
                raise FencedError(failure.text)
            if failure.kind.spares_the_process:
                self._attempts.fail(number, failure)
                return TrialScheduler.STOP
            # The process raises next, so that Tune replaces it.
            self._searcher.condemn(number, failure)
            return TrialScheduler.CONTINUE
        goes_on = self._attempts.report(number, result[STEP], result[METRIC])
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP
