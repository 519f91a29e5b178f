"""Trials that end while their sweep goes on: their runs are made to say so, whatever their workers left undone."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ..base.events import TrialUpdate
from ..base.keys import number_of
from ..ledger.ledger import Ledger
from ..ledger.rows import Row
from ..tracking.runs import read_run, runs_by_key
from ..workers.settle import is_settled, settle
from ..workers.task import Task

log = logging.getLogger(__name__)

TaskOf = Callable[[Row], Task]
"""The task of a trial's newest attempt."""

_EVERY_S = 5.0
_LEFT_ALONE_S = 20.0
"""How long the worker of a trial that has ended may take to end its run by itself."""
_ENDED = ("COMPLETE", "PRUNED", "FAIL")


class Settler:
    """Looks, in a thread of its own, at every trial some seconds after its end, again until its run is right."""

    def __init__(
        self,
        client: MlflowClient,
        ledger: Ledger,
        task_of: TaskOf,
        *,
        every_s: float = _EVERY_S,
        left_alone_s: float = _LEFT_ALONE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._task_of = task_of
        self._every_s = every_s
        self._left_alone_s = left_alone_s
        self._clock = clock
        self._due: dict[int, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="settler", daemon=True)
        self._thread.start()

    def hear(self, update: TrialUpdate) -> None:
        """Remember a trial that has ended."""
        if update.state in _ENDED:
            self._due[number_of(update.key)] = self._clock() + self._left_alone_s

    def close(self) -> None:
        """Look no more; what is not settled by then is left to others."""
        self._stopped.set()
        self._thread.join()

    def _look_on(self) -> None:
        while not self._stopped.wait(self._every_s):
            for number in [number for number, due in list(self._due.items()) if self._clock() >= due]:
                if self._stopped.is_set():
                    return
                try:
                    row = self._ledger.row(number)
                    task = self._task_of(row)
                    run = read_run(self._client, task.identity.experiment, task.key)
                    settle_trial(self._client, self._ledger, row, task, run)
                except Exception as error:
                    # MLflow, its store or the ledger may be away for a while.
                    log.warning("the run of trial %d is not settled yet, trying again: %s", number, error)
                    break
                del self._due[number]


def settle_trials(client: MlflowClient, sweep: str, ledger: Ledger, task_of: TaskOf) -> None:
    """Make the run of every trial say what the ledger says; an unfinished trial's run is stopped, not running."""
    runs = runs_by_key(client, sweep)
    for row in ledger.rows():
        task = task_of(row)
        settle_trial(client, ledger, row, task, runs.get(task.key))


def settle_trial(client: MlflowClient, ledger: Ledger, row: Row, task: Task, run: Run | None) -> None:
    """Make the run of one trial, which is made if there is none, say what the ledger says."""
    state = _state(row)
    run_id = run.info.run_id if run and is_settled(run, task, state) else settle(client, task, state, row.reason)
    if row.account.run_id != run_id:
        ledger.note(row.number, replace(row.account, run_id=run_id))


def _state(row: Row) -> str:
    """The state of a trial that no process works on, as its run has it."""
    return row.state.name if row.state.is_finished() else "STOPPED"
