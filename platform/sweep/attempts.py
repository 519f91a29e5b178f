"""The attempts of a sweep's trials: which is next, what its reports lead to, and what becomes of it when it breaks."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from optuna.trial import TrialState

from ..base.events import TrialUpdate, emit
from ..base.keys import BASELINE, directory_of, key_of
from ..ledger.ledger import Ledger
from ..ledger.pruners import reason_of
from ..ledger.rows import BASELINE_NUMBER, Row
from ..spec.spec import Spec
from ..workers.account import Account
from ..workers.costs import account_now
from ..workers.heartbeat import beat_of
from ..workers.retry import Again, Failure, Kind, can_halve, decide


class Attempts:
    """Hands out attempts: unfinished trials first, then new ones until the budget is spent; and closes them."""

    def __init__(self, ledger: Ledger, spec: Spec, storage: Path, tell: Callable[[TrialUpdate], None] = emit) -> None:
        assert spec.sweep
        self._ledger = ledger
        self._spec = spec
        self._retry = spec.sweep.retry
        self._pruner = spec.sweep.pruner
        self._storage = storage
        self._tell = tell
        self._waiting = deque(ledger.unfinished())
        self._live: set[int] = set()
        self._all_proposed = False

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        # Tune pickles its searcher and scheduler for a restoration that nobody asks for.
        return object, ()

    @property
    def spent(self) -> bool:
        """Whether nothing is left to do, nor may come back."""
        return self._all_proposed and not self._waiting and not self._live

    def next(self) -> Row | None:
        """Begin an attempt of a trial; None if there is none now."""
        number = self._waiting.popleft() if self._waiting else self._ledger.propose()
        if number is None:
            self._all_proposed = True
            return None
        account = self.account(number, again=True)
        self._ledger.note(number, replace(account, attempts=account.attempts + 1))
        self._live.add(number)
        return self._changed(number)

    def report(self, number: int, step: int, miou: float) -> bool:
        """Take a trial's mean IoU in percent at a step; whether it goes on."""
        row, prunable = self._ledger.report(number, step, miou)
        if not math.isfinite(miou):
            # The pruner would call it merely not among the best.
            self.fail(number, Failure(kind=Kind.BAD_VALUE, text=str(miou)))
            return False
        # After the last step there is nothing to save by stopping, and the trial has earned its value.
        if self._pruner and step < self._spec.trainer.steps and prunable:
            self._close(number, TrialState.PRUNED, reason_of(self._pruner, step))
            self._changed(number)
            return False
        self._tell(update_of(row, self._spec.name, self._spec.trainer.steps))
        return True

    def complete(self, number: int) -> None:
        """The trial has made its last step and saved, unless it has ended otherwise before."""
        if number in self._live:
            self._close(number, TrialState.COMPLETE)
            self._changed(number)

    def fail(self, number: int, failure: Failure) -> None:
        """The attempt broke: try again later, or give the trial up."""
        if number not in self._live:
            return
        row, trainer = self._ledger.row(number), self._spec.trainer
        own = {"trainer.batch_size": trainer.batch_size, "trainer.accumulation": trainer.accumulation, **row.params}
        halvable = can_halve(own["trainer.batch_size"], own["trainer.accumulation"], self._spec.resources.workers)
        decision = decide(failure, row.account, self._retry, can_halve=halvable)
        self._ledger.note(number, decision.account)
        if isinstance(decision, Again):
            self._ledger.note(number, self.account(number, again=True))
            self._live.discard(number)
            self._waiting.append(number)
        else:
            self._close(number, TrialState.FAIL, decision.reason)
        self._changed(number)

    def lost(self, number: int) -> Failure:
        """How an attempt failed whose process has reported nothing: as its last heartbeat says, if it does."""
        beat = beat_of(self.directory(number), self._ledger.row(number).account.attempts)
        if beat is not None and beat.failure is not None:
            return beat.failure
        return Failure(kind=Kind.LOST, text="its worker process died")

    def account(self, number: int, *, again: bool = False) -> Account:
        """A trial's account with its newest attempt counted in; `again` says that more is to come."""
        account, resources = self._ledger.row(number).account, self._spec.resources
        return account_now(account, self.directory(number), self._storage, resources, again=again)

    def directory(self, number: int) -> Path:
        """Where a trial keeps its things."""
        return directory_of(self._storage, key_of(self._spec.name, number))

    def _close(self, number: int, state: TrialState, reason: str = "") -> None:
        self._live.discard(number)
        self._ledger.note(number, self.account(number))
        self._ledger.finish(number, state, reason)

    def _changed(self, number: int) -> Row:
        """Read a trial's row, tell followers, and return it."""
        row = self._ledger.row(number)
        self._tell(update_of(row, self._spec.name, self._spec.trainer.steps))
        return row


def update_of(row: Row, sweep: str, steps: int) -> TrialUpdate:
    """A ledger row as followers see it."""
    return TrialUpdate(
        key=key_of(sweep, BASELINE if row.number == BASELINE_NUMBER else row.number),
        state=row.state.name,
        params=row.params,
        step=row.step,
        steps=steps,
        miou=row.value,
        reason=row.reason,
    )
