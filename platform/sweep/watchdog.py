"""Watches the heartbeats of running trials, and kills the processes of those that hang or take too long."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..base.keys import ATTEMPT, NUMBER
from ..spec.sweep import Retry
from ..workers.heartbeat import Beat, Pulse, read_beat
from ..workers.retry import Failure, Kind
from .search import LedgerSearcher

_LOOK_S = 1.0


class Watchdog(Callback):
    """Looks at every running trial once a second, as long as Tune's loop turns."""

    def __init__(
        self,
        searcher: LedgerSearcher,
        retry: Retry,
        directory: Callable[[int], Path],
        seconds_before: Callable[[int], float],
        check_owner: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        kill: "Callable[[Trial, Beat | None], None] | None" = None,
    ) -> None:
        """`seconds_before` gives the seconds that a trial's earlier attempts took."""
        self._searcher = searcher
        self._retry = retry
        self._directory = directory
        self._seconds_before = seconds_before
        self._check_owner = check_owner
        self._clock = clock
        self._kill = kill or kill_attempt
        self._running: dict[int, Trial] = {}
        self._pulses: dict[int, Pulse] = {}
        self._before: dict[int, float] = {}
        self._looked = clock()

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        # Tune pickles its callbacks for a restoration that nobody asks for.
        return Callback, ()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Begin to watch a trial."""
        number = trial.config[NUMBER]
        self._running[number] = trial
        self._pulses[number] = Pulse(counter=-1, since=self._clock())
        self._before[number] = self._seconds_before(number)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Watch it no more."""
        self._running.pop(trial.config[NUMBER], None)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Watch it no more."""
        self._running.pop(trial.config[NUMBER], None)

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Look at all, if it is time. Raises FencedError if another process owns the sweep."""
        now = self._clock()
        if now - self._looked < _LOOK_S:
            return
        self._looked = now
        self._check_owner()
        for number, trial in list(self._running.items()):
            beat = read_beat(self._directory(number))
            if beat is not None and beat.attempt != trial.config[ATTEMPT]:
                beat = None
            pulse = self._pulses[number]
            if beat is not None:
                pulse = self._pulses[number] = pulse.seen(beat.step, now)
            seconds = self._before[number] + (beat.seconds if beat else 0.0)
            if failure := verdict(pulse, seconds, self._retry, now):
                self._searcher.condemn(number, failure)
                del self._running[number]
                self._kill(trial, beat)


def verdict(pulse: Pulse, seconds: float, retry: Retry, now: float) -> Failure | None:
    """Why a trial must be killed that has trained for `seconds` in all its attempts; None if it may go on."""
    if pulse.silent_s(now) > retry.hang_timeout:
        where = f"after step {pulse.counter}" if pulse.counter >= 0 else "since it was started"
        return Failure(kind=Kind.HUNG, text=f"no step in {retry.hang_timeout:g} s {where}")
    if retry.trial_timeout is not None and seconds > retry.trial_timeout:
        return Failure(kind=Kind.TIMEOUT, text=f"trained for more than {retry.trial_timeout:g} s")
    return None


def kill_attempt(trial: Trial, beat: Beat | None) -> None:
    """End an attempt's processes, also if they are stopped or stuck."""
    if beat is not None and beat.node:
        here = NodeAffinitySchedulingStrategy(beat.node, soft=False)
        # A node that is gone has taken the process with it.
        _kill_process.options(scheduling_strategy=here).remote(beat.pid)
    if actor := trial.temporary_state.ray_actor:
        ray.kill(actor)


@ray.remote(num_cpus=0, max_retries=0)
def _kill_process(pid: int) -> None:
    # The heartbeat is a second old at most, and the process alive or not yet reaped: the pid is still its own.
    os.kill(pid, signal.SIGKILL)
