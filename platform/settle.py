"""Making MLflow's runs say what became of their trainings, whatever a killed process left undone."""

from collections.abc import Callable
from dataclasses import replace

from mlflow.tracking import MlflowClient

from .execute import ARTIFACTS
from .ledger import Ledger
from .mlflow_reporter import send_unsent
from .rows import Row
from .spool import Spool
from .task import Task
from .tracking import RUN_STATUS, STATE_TAG, close_run, ensure_run, runs_by_key


def settle(client: MlflowClient, task: Task, state: str, reason: str) -> str:
    """End the run of a training that no process works on; made if need be, with all of its metrics. Its id."""
    run_id = ensure_run(client, task.identity)
    if task.spool.exists():
        send_unsent(client, run_id, Spool(task.spool), lambda: False)
    there = {file.path for file in client.list_artifacts(run_id)}
    for path in (task.directory / name for name in ARTIFACTS):
        if path.exists() and path.name not in there:
            client.log_artifact(run_id, str(path))
    close_run(client, run_id, state, reason)
    return run_id


def settle_trials(client: MlflowClient, sweep: str, ledger: Ledger, task_of: Callable[[Row], Task]) -> None:
    """Make the run of every trial say what the ledger says; an unfinished trial's run is stopped, not running."""
    runs = runs_by_key(client, sweep)
    for row in ledger.rows():
        task, state = task_of(row), _state(row)
        run = runs.get(task.key)
        if run is None or (run.info.status, run.data.tags.get(STATE_TAG)) != (RUN_STATUS[state], state):
            run_id = settle(client, task, state, row.reason)
        else:
            run_id = run.info.run_id
        if row.account.run_id != run_id:
            ledger.note(row.number, replace(row.account, run_id=run_id))


def _state(row: Row) -> str:
    return row.state.name if row.state.is_finished() else "STOPPED"
