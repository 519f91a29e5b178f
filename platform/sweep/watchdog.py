"""Watches the heartbeats of running trials, and kills the processes of those that hang or take too long."""

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial

from ...trainers.errors import BrokenEnvironmentError
from ..base.events import Stage, emit
from ..base.keys import ATTEMPT, NUMBER
from ..spec.retry import Retry
from ..storage.store import Store
from ..workers.heartbeat import Beat, beat_of
from ..workers.killing import kill_beating
from ..workers.watch import TELL_AFTER_S, Watch
from .search import LedgerSearcher

_LOOK_S = 1.0


class Watchdog(Callback):
    """Looks at every running trial once a second, as long as Tune's loop turns."""

    def __init__(
        self,
        searcher: LedgerSearcher,
        retry: Retry,
        own: Callable[[int], Store],
        seconds_before: Callable[[int], float],
        check_owner: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        kill: "Callable[[Trial, Beat | None], None] | None" = None,
    ) -> None:
        """`own` gives what lasts of a trial, `seconds_before` the seconds that a trial's earlier attempts took."""
        self._searcher = searcher
        self._retry = retry
        self._own = own
        self._seconds_before = seconds_before
        self._check_owner = check_owner
        self._clock = clock
        self._kill = kill or kill_attempt
        self._running: dict[int, Trial] = {}
        self._watches: dict[int, Watch] = {}
        self._before: dict[int, float] = {}
        self._looked = self._active = clock()
        self._has_told = False

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        # Tune pickles its callbacks for a restoration that nobody asks for.
        return Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Begin to watch a trial."""
        number = trial.config[NUMBER]
        self._running[number] = trial
        self._watches[number] = Watch(began=self._clock(), every_s=self._own(number).beat_s)
        self._before[number] = self._seconds_before(number)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Watch it no more."""
        self._running.pop(trial.config[NUMBER], None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Watch it no more."""
        self._running.pop(trial.config[NUMBER], None)

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Look at all, if it is time.

        Raises FencedError if another process owns the sweep, and BrokenEnvironmentError if nothing begins for too long.
        """
        if self._clock() - self._looked < _LOOK_S:
            return
        self._check_owner()
        now = self._looked = self._clock()
        waiting = [trial for trial in trials if trial.status == Trial.PENDING]
        for number, trial in list(self._running.items()):
            watch = self._watches[number]
            if watch.is_due(now):
                watch = watch.seen(beat_of(self._own(number), trial.config[ATTEMPT]), now)
                self._watches[number] = watch
            if watch.beat is None:
                waiting.append(trial)
            if failure := watch.verdict(self._retry, now, self._before[number]):
                self._searcher.condemn(number, failure)
                del self._running[number]
                self._kill(trial, watch.beat)
        self._see_to_waiting(len(waiting), now)

    def _see_to_waiting(self, waiting: int, now: float) -> None:
        """Say that nothing runs while some wait for their workers, and raise if that goes on for too long."""
        runs = any(watch.beat for number, watch in self._watches.items() if number in self._running)
        if runs and self._has_told:
            emit(Stage(text="trials run now"))
        if runs or not waiting:
            self._active, self._has_told = now, False
        elif now - self._active > self._retry.start_timeout:
            raise BrokenEnvironmentError(
                f"no trial has begun for {self._retry.start_timeout:g} s: something else holds the CPUs or GPUs that "
                f"{waiting} wait for, as `ray status` shows; free them, or lower resources, and resume the sweep"
            )
        elif now - self._active > TELL_AFTER_S and not self._has_told:
            self._has_told = True
            told = f"{waiting} trials wait for CPUs or GPUs that something else holds, and none runs"
            emit(Stage(text=told, waits=True))


def kill_attempt(trial: Trial, beat: Beat | None) -> None:
    """End an attempt's processes, also if they are stopped or stuck."""
    if beat is not None:
        kill_beating(beat)
    if actor := trial.temporary_state.ray_actor:
        ray.kill(actor)
