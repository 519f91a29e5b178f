"""The attempts of a sweep's trials: which is next, what its reports lead to, and what becomes of it when it breaks."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

from optuna.trial import TrialState

from ..base.events import Stage, TrialUpdate, emit
from ..base.keys import METRIC, key_of
from ..ledger.pruners import reason_of
from ..ledger.rows import Row
from ..spec.spec import Spec
from ..storage.store import Store
from ..tracking.spool import kept_records
from ..workers.account import Account
from ..workers.checkpoints import newest_sealed
from ..workers.costs import account_now
from ..workers.health import Health
from ..workers.heartbeat import beat_of
from ..workers.retry import Again, Failure, GiveUp, Kind, can_halve, decide, told_again
from ..workers.task import METRICS
from .book import Book


class Attempts:
    """Hands out attempts: unfinished trials first, then new ones until the budget is spent; and closes them."""

    def __init__(
        self,
        book: Book,
        spec: Spec,
        store: Store,
        concurrency: int,
        tell: Callable[[TrialUpdate], None] = emit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`book` is what holds them; `concurrency` is how many run at the same time. Only a study's are pruned."""
        assert spec.sweep
        self._book = book
        self._spec = spec
        self._retry = spec.sweep.retry
        self._pruner = spec.sweep.pruner
        self._store = store
        self._concurrency = concurrency
        self._tell = tell
        self._clock = clock
        self._waiting = dict.fromkeys(book.unfinished(), clock())
        """When each of them may be tried again."""
        self._live: set[int] = set()
        self._all_proposed = False
        self._is_stopped = False
        rows = book.rows()
        self._reported = {row.number: row.step for row in rows}
        self._health = Health(has_reported=any(row.curve for row in rows))

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        # Tune pickles its searcher and scheduler for a restoration that nobody asks for.
        return object, ()

    @property
    def spent(self) -> bool:
        """Whether nothing is left to do, nor may come back."""
        return self._all_proposed and not self._waiting and not self._live

    @property
    def is_idle(self) -> bool:
        """Whether no attempt is under way."""
        return not self._live

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._is_stopped

    @property
    def ailment(self) -> str | None:
        """What hinders all trials, and what to do; None while any may still come to an end."""
        ailment = self._health.ailment(self._retry)
        # Trials that were given up are handed out again only where somebody asks for it.
        verb = "retry" if self._health.errors else "resume"
        return ailment and f"{ailment}: mend that, and `advseg sweep {verb} {self._spec.name}` goes on"

    @property
    def pause_s(self) -> float:
        """Seconds until the first of those that wait may be tried again."""
        return max(0.0, min(self._waiting.values(), default=0.0) - self._clock())

    def stop(self) -> None:
        """Begin no more attempts."""
        self._is_stopped = True

    def next(self) -> Row | None:
        """Begin an attempt of a trial; None if there is none now."""
        if self._is_stopped or self.ailment:
            # What still runs may report, and show that trials can.
            return None
        while (number := self._next_number()) is not None:
            self._live.add(number)
            if self._catch_up(number):
                account = self.account(number, again=True)
                self._book.note(number, replace(account, attempts=account.attempts + 1))
                return self._changed(number)
        return None

    def _next_number(self) -> int | None:
        now = self._clock()
        for number, due in self._waiting.items():
            if due <= now:
                del self._waiting[number]
                return number
        # A trial that waits keeps its place, or a full disk would open all there are, one after the other.
        if self._waiting and len(self._waiting) + len(self._live) >= self._concurrency:
            return None
        number = self._book.propose()
        self._all_proposed = number is None
        return number

    def _catch_up(self, number: int) -> bool:
        """Take what an attempt before has reported and saved and nobody heard; whether the trial goes on.

        As a node dies, reports may stick on their way. What no checkpoint holds is made and reported again.
        """
        sealed = newest_sealed(self.own(number))
        if sealed is None:
            return True
        held, records = self._book.row(number).curve, kept_records(self.own(number), METRICS)
        missing = {record["step"]: record["metrics"][METRIC] for record in records if record["step"] <= sealed.step}
        return all(self.report(number, step, miou) for step, miou in missing.items() if step not in held)

    def report(self, number: int, step: int, miou: float) -> bool:
        """Take a trial's mean IoU in percent at a step; whether it goes on."""
        row, prunable = self._book.report(number, step, miou)
        if step > self._reported.get(number, 0):
            # A report that comes again, as one whose checkpoint could not be written, shows no way out.
            self._reported[number], self._health = step, self._health.heard()
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
        if number in self._live and self._catch_up(number):
            self._close(number, TrialState.COMPLETE)
            self._changed(number)

    def fail(self, number: int, failure: Failure) -> None:
        """The attempt broke: try again later, or give the trial up."""
        if number not in self._live:
            return
        row = self._book.row(number)
        halvable = can_halve(self._book.trainer(number), self._spec.resources.workers)
        decision = decide(failure, row.account, self._retry, can_halve=halvable)
        self._health = self._health.failed(number, failure, given_up=isinstance(decision, GiveUp))
        self._book.note(number, decision.account)
        if isinstance(decision, Again):
            self._book.note(number, self.account(number, again=True))
            self._live.discard(number)
            pause = self._health.backoff_s(number)
            self._waiting[number] = self._clock() + pause
            emit(Stage(text=told_again(self._key(number), failure, pause)))
        else:
            self._close(number, TrialState.FAIL, decision.reason)
        self._changed(number)

    def lost(self, number: int) -> Failure:
        """How an attempt failed whose process has reported nothing: as its last heartbeat says, if it does."""
        beat = beat_of(self.own(number), self._book.row(number).account.attempts)
        if beat is None:
            # It cannot have read what it was to train.
            return Failure(kind=Kind.ENVIRONMENT, text="its worker process died before it began")
        return beat.failure or Failure(kind=Kind.LOST, text="its worker process died")

    def account(self, number: int, *, again: bool = False) -> Account:
        """A trial's account with its newest attempt counted in; `again` says that more is to come."""
        account = self._book.row(number).account
        return account_now(account, self._store, self._key(number), self._spec.resources, again=again)

    def own(self, number: int) -> Store:
        """What lasts of a trial."""
        return self._store.at(self._key(number))

    def _key(self, number: int) -> str:
        return key_of(self._spec.name, self._book.trial_of(number))

    def _close(self, number: int, state: TrialState, reason: str = "") -> None:
        self._live.discard(number)
        self._book.note(number, self.account(number))
        self._book.finish(number, state, reason)

    def _changed(self, number: int) -> Row:
        """Read a trial's row, tell followers, and return it."""
        row = self._book.row(number)
        self._tell(update_of(row, self._spec.name, self._spec.trainer.steps))
        return row


def update_of(row: Row, sweep: str, steps: int) -> TrialUpdate:
    """A ledger row as followers see it."""
    best_step, best_miou = row.best or (0, None)
    return TrialUpdate(
        key=key_of(sweep, row.trial),
        arm=row.arm,
        state=row.state.name,
        params=row.params,
        step=row.step,
        steps=steps,
        miou=row.value,
        best_miou=best_miou,
        best_step=best_step,
        reason=row.reason,
    )
