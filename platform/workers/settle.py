"""Making MLflow's runs say what became of their trainings, whatever a killed process left undone."""

from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ..tracking.artifacts import send_artifacts
from ..tracking.reporter import SYSTEM, send_unsent
from ..tracking.runs import RUN_STATUS, STATE_TAG, close_run, ensure_run
from ..tracking.spool import Spool, has_unsent
from .execute import ARTIFACTS
from .task import Task


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


def _spools(task: Task) -> tuple[Path, ...]:
    return task.spool, task.directory / SYSTEM
