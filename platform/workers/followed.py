"""A training on workers, followed through its attempts: told of, watched, and tried again where it broke.

What imports PyTorch or MLflow is imported where it is used: the process that starts workers need not wait for it.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ray.train import TrainingFailedError

from ...trainers.errors import BrokenEnvironmentError, FencedError
from ..base.events import Stage, TrialUpdate, emit
from ..base.keys import METRIC
from ..spec.resources import Resources
from ..spec.retry import Retry
from ..tracking.ending import Ending, State, ended_by
from ..tracking.spool import kept_records
from .account import Account
from .costs import account_now
from .health import Health
from .heartbeat import as_told, beat_of, read_beat
from .killing import kill_beating
from .lease import Lease, next_attempt
from .ray_train import run_on_workers
from .retry import Again, Failure, GiveUp, Kind, decide, error_of, told_again
from .task import METRICS, Task
from .watch import TELL_AFTER_S, Watch

_LOOKS = 2
"""At a training, while it writes one heartbeat."""
_KILL_S = 60.0
"""How long Ray Train is given to notice that a worker was killed."""
_ONLY = 0
"""The number of the one training that is followed, among those of its health."""

Tell = Callable[[TrialUpdate, Account], None]
"""Is told of a training's progress, what it has cost so far, and at last how it ended."""


def tell_followers(update: TrialUpdate, account: Account) -> None:
    """Tell those alone who follow the job."""
    emit(update)


def follow_on_workers(
    task: Task,
    resources: Resources,
    retry: Retry,
    account: Account,
    tell: Tell = tell_followers,
) -> None:
    """Train on workers, again where they were lost, telling of the progress; `account` is what it has cost before.

    The training's MLflow run ends however it ends. Raises DivergedError or UserError with the reason of the last
    failure, BrokenEnvironmentError if a disk, a driver or a server fails again and again, which leaves the training
    unfinished, and FencedError if a newer attempt has the training's directory.
    """
    beat = read_beat(task.own)
    account = replace(account, halvings=beat.halvings if beat else account.halvings)
    # What a driver before lost does not count against this one.
    retry = retry.model_copy(update={"max_attempts": retry.max_attempts + account.lost})
    for _ in range(account.halvings):
        task = task.halved()
    followed = _Followed(task=task, account=account, resources=resources, tell=tell)
    with ended_by(followed.end):
        while True:
            followed.begin_attempt()
            try:
                with followed.watched(retry), _own_interrupts():
                    run_on_workers(followed.task, resources)
                return
            except (TrainingFailedError, OSError, _CondemnedError) as error:
                from .failures import failure_of

                attempt = (followed.task.own, followed.task.attempt.number)
                failure = followed.condemned or as_told(failure_of(error), *attempt)
                if failure.kind is Kind.FENCED:
                    raise FencedError(failure.text) from None
                halvable = followed.task.can_halve(resources.workers)
                decision = decide(failure, followed.account, retry, can_halve=halvable)
                followed.broke(failure, decision)
                if isinstance(decision, GiveUp):
                    raise error_of(failure, decision.reason) from error
                if ailment := followed.health.ailment(retry):
                    raise BrokenEnvironmentError(_remedy(task, ailment)) from error
                pause = followed.health.backoff_s(_ONLY)
                emit(Stage(text=told_again(task.key, failure, pause)))
                time.sleep(pause)


def _remedy(task: Task, ailment: str) -> str:
    sweep = task.identity.parent
    again = "submit it again to go on" if sweep is None else f"`advseg sweep resume {sweep}` goes on"
    return f"{task.key} stops: {ailment}: mend that, and {again}"


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, and afterwards does what it did before: Ray Train's own handler stays."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        # What Ray Train makes of it once it has ended its workers.
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


class _CondemnedError(Exception):
    """An attempt was ended by who watches it."""


@dataclass(kw_only=True)
class _Followed:
    """A training on its way through its attempts."""

    task: Task
    account: Account
    resources: Resources
    tell: Tell
    health: Health = Health()
    condemned: Failure | None = None
    """Why the attempt was ended by who watches it."""
    _told: int = 0
    """Records of the spool that were told of."""
    _step: int = 0
    """The newest that was told of."""
    _waits: bool = False
    """Whether those who follow were told that its workers wait."""

    def begin_attempt(self) -> None:
        """Take the next attempt's number, and tell that it begins."""
        self.task = replace(self.task, attempt=next_attempt(self.task.own, self.task.attempt.epoch))
        self.account = replace(self.account, attempts=self.task.attempt.number)
        self._told = 0
        self._say(0, None)

    def broke(self, failure: Failure, decision: Again | GiveUp) -> None:
        """Count the attempt that broke, and halve the micro-batch if that was decided."""
        self.health = self.health.failed(_ONLY, failure, given_up=isinstance(decision, GiveUp))
        if decision.account.halvings > self.account.halvings:
            self.task = self.task.halved()
        self.account = self._counted(decision.account, again=isinstance(decision, Again))

    def end(self, ending: Ending) -> None:
        """Tell how it ended, and have its run say so."""
        # What a newer attempt has is not ours to end.
        Lease(self.task.own, self.task.attempt).check()
        self.account = self._counted(self.account, again=ending.state is State.STOPPED)
        last = kept_records(self.task.own, METRICS)[-1:]
        told = (last[0]["step"], last[0]["metrics"][METRIC]) if last else (0, None)
        self._say(*told, ending)
        _settle(self.task, ending)

    @contextmanager
    def watched(self, retry: Retry) -> Iterator[None]:
        """Meanwhile tell of every report in the training's spool, and end the attempt if it hangs.

        Raises _CondemnedError for one that was ended by this, unless Ray Train says so, and what `tell` raises.
        """
        ended = threading.Event()
        raised: list[Exception] = []

        def look_on() -> None:
            try:
                self._look_until(ended, retry)
            except Exception as error:
                # The training may be another driver's by now.
                raised.append(error)
            if not ended.is_set():
                # Ray Train waits in the main thread, and ends its workers for this.
                os.kill(os.getpid(), signal.SIGINT)

        self.condemned = None
        thread = threading.Thread(target=look_on, name="news", daemon=True)
        thread.start()
        try:
            yield
        except KeyboardInterrupt:
            if raised:
                raise raised[0] from None
            if self.condemned:
                raise _CondemnedError from None
            raise
        finally:
            ended.set()
            thread.join()
            self._tell_news()

    def _look_until(self, ended: threading.Event, retry: Retry) -> None:
        """Tell of every report until the attempt has ended, or is to be ended."""
        own = self.task.own
        watch = Watch(began=time.monotonic(), every_s=own.beat_s)
        before = self.account.device_seconds / self.resources.devices
        while not ended.wait(own.beat_s / _LOOKS):
            self._tell_news()
            now = time.monotonic()
            watch = watch.seen(beat_of(own, self.task.attempt.number), now)
            if failure := watch.verdict(retry, now, before):
                self.condemned = failure
                if watch.beat:
                    kill_beating(watch.beat)
                    ended.wait(_KILL_S)
                return
            self._say_whether_it_waits(watch.beat is None and now - watch.began > TELL_AFTER_S)

    def _say_whether_it_waits(self, waits: bool) -> None:
        if waits != self._waits:
            self._waits = waits
            what = (
                "waits for CPUs or GPUs that something else holds, or its worker is slow to start"
                if waits
                else "has begun"
            )
            emit(Stage(text=f"{self.task.key} {what}", waits=waits))

    def _tell_news(self) -> None:
        records = kept_records(self.task.own, METRICS)
        for record in records[self._told :]:
            self._say(record["step"], record["metrics"][METRIC])
            if record["step"] > self._step:
                self._step, self.health = record["step"], self.health.heard()
        self._told = len(records)

    def _say(self, step: int, miou: float | None, ending: Ending | None = None) -> None:
        state, reason = (ending.state.value, ending.reason) if ending else ("RUNNING", "")
        steps = self.task.spec["trainer"]["steps"]
        update = TrialUpdate(key=self.task.key, state=state, step=step, steps=steps, miou=miou, reason=reason)
        self.tell(update, self.account)

    def _counted(self, account: Account, *, again: bool) -> Account:
        return account_now(account, self.task.store, self.task.key, self.resources, again=again)


def _settle(task: Task, ending: Ending) -> None:
    """Make the MLflow run of a task say how it ended: Ray kills workers hard, and they end nothing then."""
    from mlflow.tracking import MlflowClient

    from ..tracking.patience import close
    from .settle import settle

    what = f"the end of {task.key}, which `advseg sync` brings"
    close(lambda: settle(MlflowClient(task.tracking_uri), task, ending), ending, what)
