"""Making MLflow's runs say what became of their trainings, whatever a killed process left undone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from .artifacts import send_artifacts
from .execute import ARTIFACTS
from .ledger import Ledger
from .mlflow_reporter import SYSTEM, send_unsent
from .rows import Row
from .spool import Spool, has_unsent
from .task import Task
from .tracking import RUN_STATUS, STATE_TAG, close_run, ensure_run, runs_by_key

TaskOf = Callable[[Row], Task]
"""The task of a trial's newest attempt."""


def settle(client: MlflowClient, task: Task, state: str, reason: str) -> str:
    """End the run of a training that no process works on; made if need be, with all of its metrics. Its id."""
    run_id = ensure_run(client, task.identity)
    deliver(client, run_id, task)
    close_run(client, run_id, state, reason)
    return run_id


def deliver(client: MlflowClient, run_id: str, task: Task) -> None:
    """Send what a training that no process works on has left in its directory."""
    for spool in _spools(task):
        if spool.exists():
            send_unsent(client, run_id, Spool(spool), lambda: False)
    send_artifacts(client, run_id, task.directory, ARTIFACTS)


def is_settled(run: Run | None, task: Task, state: str) -> bool:
    """Whether a training's run has its state, and nothing is left to send."""
    if run is None or (run.info.status, run.data.tags.get(STATE_TAG)) != (RUN_STATUS[state], state):
        return False
    return not any(has_unsent(spool) for spool in _spools(task))


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


def _spools(task: Task) -> tuple[Path, ...]:
    return task.spool, task.directory / SYSTEM
