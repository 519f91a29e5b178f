"""The heartbeat of a training: a small file beside its checkpoints in the store, which its driver reads.

It holds a counter of all that the training gets done. Whoever watches it times the counter on its own clock, so that no
clock need agree.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from ...trainers.errors import BrokenEnvironmentError, FencedError
from ...trainers.progress import ticks
from ..base.processes import ProcessIdentity, this_process
from ..storage.store import Store
from .lease import Attempt
from .retry import Failure, Kind

FILE = "heartbeat.json"
_ASKED = Failure(kind=Kind.PREEMPTED, text="asked to stop, and ended before it had saved")


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What a training says of itself."""

    epoch: int
    attempt: int
    step: int
    """Steps that it has made."""
    seconds: float
    """Since the attempt began, on its own clock."""
    pid: int
    process: ProcessIdentity | None = None
    """The process of that pid, told apart from a later one."""
    progress: int = 0
    """Steps, and whatever else it has done by now: images evaluated, files opened."""
    node: str
    """Ray's id of the node; empty outside of Ray."""
    run_id: str | None = None
    halvings: int = 0
    """How often its micro-batch was halved."""
    images_per_second: float | None = None
    """As its newest report measured it; None before the first."""
    failure: Failure | None = None
    """How it ended, if it broke; one that was asked to stop says so before it does, for its node may not wait."""


def read_beat(store: Store) -> Beat | None:
    """A training's newest heartbeat, from the store of its own; None before the first and if it cannot be read now."""
    try:
        said = json.loads(store.read(FILE))
        failure, process = said.pop("failure"), said.pop("process", None)
        if failure is not None:
            failure = Failure(kind=Kind(failure["kind"]), text=failure["text"])
        return Beat(**said, failure=failure, process=process and ProcessIdentity(**process))
    except (OSError, BrokenEnvironmentError, ValueError, TypeError, LookupError, AttributeError):
        return None


def beat_of(store: Store, attempt: int) -> Beat | None:
    """A training's newest heartbeat, if it is of that attempt."""
    beat = read_beat(store)
    return beat if beat and beat.attempt == attempt else None


def as_told(failure: Failure, store: Store, attempt: int) -> Failure:
    """How an attempt failed: one that was lost knew perhaps that its node was about to go."""
    beat = beat_of(store, attempt)
    told = beat.failure if beat else None
    return told if told and told.kind is Kind.PREEMPTED and failure.kind is Kind.LOST else failure


class Heart:
    """Writes the heartbeat again and again, from a thread, until it is stopped."""

    def __init__(
        self,
        store: Store,
        attempt: Attempt,
        step: Callable[[], int],
        run_id: Callable[[], str | None],
        node: str,
        *,
        halvings: int = 0,
        images_per_second: Callable[[], float | None] = lambda: None,
        asked_to_stop: Callable[[], bool] = lambda: False,
        check: Callable[[], None] = lambda: None,
        beat_s: float | None = None,
    ) -> None:
        """The store is the training's own, and says how often it takes a heartbeat, if `beat_s` does not.

        `check` raises FencedError once a newer attempt has the training, whose heartbeat is to be left alone.
        """
        self._store = store
        self._attempt = attempt
        self._step = step
        self._run_id = run_id
        self._node = node
        self._halvings = halvings
        self._images_per_second = images_per_second
        self._asked_to_stop = asked_to_stop
        self._check = check
        self._beat_s = store.beat_s if beat_s is None else beat_s
        self._process = this_process()
        self._began = time.monotonic()
        self._stopped = threading.Event()
        self._writing = threading.Lock()
        self._write()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)
        self._thread.start()

    def beat(self) -> None:
        """Write one heartbeat now. A disk that is full, or a store that is away for a while, ends no training."""
        self._try_to_write(_ASKED if self._asked_to_stop() else None)

    def _try_to_write(self, failure: Failure | None) -> None:
        with self._writing, contextlib.suppress(OSError, BrokenEnvironmentError, FencedError):
            self._check()
            self._write(failure)

    def _write(self, failure: Failure | None = None) -> None:
        beat = Beat(
            epoch=self._attempt.epoch,
            attempt=self._attempt.number,
            step=self._step(),
            seconds=round(time.monotonic() - self._began, 3),
            pid=self._process.pid,
            process=self._process,
            progress=ticks(),
            node=self._node,
            run_id=self._run_id(),
            halvings=self._halvings,
            images_per_second=self._images_per_second(),
            failure=failure,
        )
        self._store.write(FILE, json.dumps(asdict(beat)).encode())

    def stop(self, failure: Failure | None = None) -> None:
        """Write the last heartbeat; it says how the training broke, if it did."""
        self._stopped.set()
        self._thread.join()
        self._try_to_write(failure)

    def _beat_on(self) -> None:
        while not self._stopped.wait(self._beat_s):
            self.beat()


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """A counter as an observer has seen it, timed on the observer's own monotonic clock."""

    counter: int
    since: float
    """When the counter was first seen at its value."""

    def seen(self, counter: int, now: float) -> "Pulse":
        """The pulse after another look."""
        return self if counter == self.counter else Pulse(counter=counter, since=now)

    def silent_s(self, now: float) -> float:
        """Seconds in which the counter has not moved."""
        return now - self.since
