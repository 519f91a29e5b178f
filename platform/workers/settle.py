"""Making MLflow's runs say what became of their trainings, whatever a killed process left undone."""

from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ..tracking.artifacts import send_artifacts
from ..tracking.ending import Ending
from ..tracking.reporter import SYSTEM, send_unsent
from ..tracking.runs import close_run, ensure_run, has_ended
from ..tracking.spool import Spool, has_unsent
from .execute import ARTIFACTS
from .task import Task


def settle(client: MlflowClient, task: Task, ending: Ending, run: Run | None = None) -> str:
    """End the run of a training that no process works on; made if need be, with all of its metrics. Its id.

    `run` is what is known of it already; one that says all this is left as it is.
    """
    if run is not None and has_ended(run, ending) and not any(has_unsent(spool) for spool in _spools(task)):
        return run.info.run_id
    run_id = ensure_run(client, task.identity)
    deliver(client, run_id, task)
    close_run(client, run_id, ending)
    return run_id


def deliver(client: MlflowClient, run_id: str, task: Task) -> None:
    """Send what a training that no process works on has left in its directory."""
    for spool in _spools(task):
        if spool.exists():
            send_unsent(client, run_id, Spool(spool), lambda: False)
    send_artifacts(client, run_id, task.directory, ARTIFACTS)


def _spools(task: Task) -> tuple[Path, ...]:
    return task.spool, task.directory / SYSTEM
