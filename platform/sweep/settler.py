"""Trials that end while their sweep goes on: their runs are made to say so, whatever their workers left undone."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ..base.events import TrialUpdate
from ..ledger.ledger import Ledger
from ..ledger.rows import Row
from ..tracking.clients import by_itself
from ..tracking.ending import Ending, State
from ..tracking.patience import is_away, reason_of
from ..tracking.runs import read_run, runs_by_key
from ..workers.settle import settle
from ..workers.task import Task
from .book import Book
from .tasks import SweepTasks

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_LEFT_ALONE_S = 5.0
"""How long the worker of a trial that has ended is given to send what is left by itself."""
_LEAVE_S = 5.0
"""How long closing waits for a request that is under way."""
_ENDED = ("COMPLETE", "PRUNED", "FAIL")


class Settler:
    """Looks, in a thread of its own, at every trial some seconds after its end, again until its run is right."""

    def __init__(
        self,
        client: MlflowClient,
        book: Book,
        tasks: SweepTasks,
        *,
        every_s: float = _EVERY_S,
        left_alone_s: float = _LEFT_ALONE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._book = book
        self._tasks = tasks
        self._every_s = every_s
        self._left_alone_s = left_alone_s
        self._clock = clock
        self._due: dict[str, float] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="settler", daemon=True)
        self._thread.start()

    def hear(self, update: TrialUpdate) -> None:
        """Remember a trial that has ended."""
        if update.state in _ENDED:
            self._due[update.key] = self._clock() + self._left_alone_s

    def close(self) -> None:
        """Look no more; what is not settled by then is left to others."""
        self._stopped.set()
        self._thread.join(_LEAVE_S)

    def _look_on(self) -> None:
        while not self._stopped.wait(self._every_s):
            for key in [key for key, due in list(self._due.items()) if self._clock() >= due]:
                if self._stopped.is_set():
                    return
                try:
                    row = self._book.row(self._book.number_of(key.rpartition("/")[2]))
                    task = self._tasks.of(row)
                    run = read_run(self._client, task.identity.experiment, task.key)
                    settle_trial(self._client, self._book, row, task, run)
                except Exception as error:
                    if is_away(error):
                        # MLflow, its store or the ledger, for a while.
                        log.warning("the run of %s is not settled yet, trying again: %s", key, error)
                        continue
                    log.warning("the run of %s cannot be settled: %s", key, reason_of(error))
                del self._due[key]


def settle_trials(client: MlflowClient, ledger: Ledger, tasks: SweepTasks) -> list[str]:
    """Make the runs of all trainings say what the ledger says; what is unfinished is stopped.

    Each by itself: a line for each that could not be. Raises what MLflow's client raises if it does not answer at all.
    """
    runs = runs_by_key(client, ledger.spec.name)
    problems: list[str] = []

    def settle_row(row: Row) -> None:
        task = tasks.of(row)
        settle_trial(client, ledger, row, task, runs.get(task.key))

    with by_itself("its baseline", client, problems):
        baseline = ledger.baseline()
        if baseline.account.attempts:
            settle_row(baseline)
    for row in (*ledger.rows(), *ledger.confirmations()):
        with by_itself(f"trial {row.trial}", client, problems):
            settle_row(row)
    return problems


def settle_trial(client: MlflowClient, book: Book, row: Row, task: Task, run: Run | None) -> None:
    """Make the run of one training, which is made if there is none, say what the ledger says."""
    run_id = settle(client, task, ending_of(row), run)
    if row.account.run_id != run_id:
        book.note(row.number, replace(row.account, run_id=run_id))


def ending_of(row: Row) -> Ending:
    """How a training ended that no process works on."""
    return Ending(State(row.state.name) if row.state.is_finished() else State.STOPPED, row.reason)
