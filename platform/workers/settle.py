"""Making MLflow's runs say what became of their trainings, whatever a killed process left undone."""

from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ..tracking.artifacts import send_artifacts
from ..tracking.ending import Ending
from ..tracking.reporter import SYSTEM
from ..tracking.runs import close_run, ensure_run, has_ended
from ..tracking.sending import Sender
from ..tracking.spool import Spool, has_unsent, read_records
from .execute import ARTIFACTS
from .task import Task


def settle(client: MlflowClient, task: Task, ending: Ending, run: Run | None = None) -> str:
    """End the run of a training that no process works on; made if need be, with all of its metrics. Its id.

    `run` is what is known of it already; one that says all this is left as it is.
    """
    if run is not None and has_ended(run, ending):
        run_id = run.info.run_id
        if not any(has_unsent(spool, run_id) for spool in _spools(task)):
            return run_id
    run_id = ensure_run(client, task.identity, reopen=False)
    deliver(client, run_id, task)
    close_run(client, run_id, ending, end_time=last_sign(task))
    return run_id


def deliver(client: MlflowClient, run_id: str, task: Task) -> None:
    """Send what a training that no process works on has left in its directory, of which nothing is changed."""
    sender = Sender(client, run_id, task.key)
    for spool in _spools(task):
        sender.send(Spool(spool))
    send_artifacts(client, run_id, task.directory, ARTIFACTS)


def last_sign(task: Task) -> int | None:
    """When a training reported or measured its machine for the last time, in milliseconds; None if it never did."""
    times = [record["timestamp"] for spool in _spools(task) for record in read_records(spool)]
    return max(times, default=None)


def _spools(task: Task) -> tuple[Path, ...]:
    return task.spool, task.directory / SYSTEM
