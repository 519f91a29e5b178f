"""Making MLflow's runs say what became of their trainings, whatever a killed process left undone."""

from collections.abc import Iterator
from contextlib import contextmanager
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
from .task import METRICS, Task
from .workplace import workplace


def settle(client: MlflowClient, task: Task, ending: Ending, run: Run | None = None) -> str:
    """End the run of a training that no process works on; made if need be, with all of its metrics. Its id.

    `run` is what is known of it already; one that says all this is left as it is.
    """
    with left_behind(task) as directory:
        if run is not None and has_ended(run, ending):
            run_id = run.info.run_id
            if not any(has_unsent(spool, run_id) for spool in _spools(directory)):
                return run_id
        run_id = ensure_run(client, task.identity, reopen=False)
        deliver(client, run_id, task.key, directory)
        close_run(client, run_id, ending, end_time=last_sign(directory))
    return run_id


@contextmanager
def left_behind(task: Task) -> Iterator[Path]:
    """A folder with what a training that no process works on has left, but for checkpoints and model."""
    with workplace(task.own, lambda: None, files=True) as place:
        yield place.directory
        place.keep_files()  # What was sent of it.


def deliver(client: MlflowClient, run_id: str, key: str, directory: Path) -> None:
    """Send what the training with a key has left in a folder."""
    sender = Sender(client, run_id, key)
    for spool in _spools(directory):
        sender.send(Spool(spool))
    send_artifacts(client, run_id, directory, ARTIFACTS)


def has_news(directory: Path) -> bool:
    """Whether a training has left in a folder what was not sent yet."""
    return any(has_unsent(spool) for spool in _spools(directory))


def last_sign(directory: Path) -> int | None:
    """When a training reported or measured its machine for the last time, in milliseconds; None if it never did."""
    times = [record["timestamp"] for spool in _spools(directory) for record in read_records(spool)]
    return max(times, default=None)


def _spools(directory: Path) -> tuple[Path, ...]:
    return directory / METRICS, directory / SYSTEM
