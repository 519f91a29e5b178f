"""What killed processes left behind is brought to MLflow, and runs that nobody works on any more are ended."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ...trainers.errors import UserError
from ..base.keys import SINGLE, directory_of, key_of
from ..ledger.opening import reopen_ledger
from ..ledger.ownership import PATIENCE_S
from ..ledger.reading import sweep_names
from ..tracking.ending import Ending, State
from ..tracking.identity import RunIdentity, sweep_identity
from ..tracking.runs import close_run, ensure_run, is_own, read_run, refuse_another
from ..tracking.spool import has_unsent
from ..workers.heartbeat import read_beat
from ..workers.settle import deliver
from ..workers.task import METRICS, Task
from ..workers.training_id import read_training_id
from .epochs import newest_epoch
from .settler import settle_trials
from .tasks import SweepTasks

Say = Callable[[str], None]
_POLL_S = 0.2


def sync(client: MlflowClient, storage: Path, ledger: str | None, names: Sequence[str], say: Say) -> None:
    """Settle the sweeps of these names, or all of a ledger and the trainings without one. Raises UserError."""
    known = sweep_names(storage, ledger)
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"there is no sweep {unknown[0]}; known sweeps: {', '.join(known) or 'none yet'}")
    sync_sweeps(client, storage, names or known, ledger, say)
    if not names:
        sync_trainings(client, storage, say)


def sync_sweeps(client: MlflowClient, storage: Path, names: Iterable[str], ledger: str | None, say: Say) -> None:
    """Make the runs of sweeps say what the ledger says; a sweep that somebody owns is told and left alone."""
    for name in names:
        try:
            reopened = reopen_ledger(storage, name, ledger, above=newest_epoch(storage, name))
        except UserError as error:
            say(f"left alone: {error}")
            continue
        with closing(reopened):
            document = reopened.spec.model_dump(mode="json")
            epoch = reopened.ownership.epoch
            tasks = SweepTasks(
                document=document,
                storage=storage,
                tracking_uri=client.tracking_uri,
                epoch=epoch,
                sweep_id=reopened.sweep_id,
            )
            identity = sweep_identity(document, reopened.sweep_id)
            try:
                refuse_another(client, identity)
            except UserError as error:
                say(f"left alone: {error}")
                continue
            parent = read_run(client, name, identity.key)
            run_id = parent.info.run_id if parent else ensure_run(client, identity)
            settle_trials(client, reopened, tasks)
            if parent is None or parent.info.status == "RUNNING":
                close_run(client, run_id, Ending(State.STOPPED, "its driver is gone"))
        say(f"sweep {name}: its runs are as its ledger has them")


def sync_trainings(client: MlflowClient, storage: Path, say: Say, *, patience_s: float = PATIENCE_S) -> None:
    """Bring what trainings without a sweep have left, and end their runs, if their heartbeats stand still so long."""
    names = [path.parent.parent.name for path in sorted(storage.glob(f"*/{SINGLE}/{METRICS}"))]
    tasks = {name: _single(storage, name, client.tracking_uri) for name in names}
    runs = ((task, read_run(client, name, task.key)) for name, task in tasks.items())
    left = [(task, run) for task, run in runs if run and is_own(run, task.identity) and _is_open(run, task)]
    at_work = _at_work([task for task, _ in left], patience_s)
    for task, run in left:
        if task.key in at_work:
            say(f"left alone: training {task.key} is at work")
            continue
        deliver(client, run.info.run_id, task)
        if run.info.status == "RUNNING":
            close_run(client, run.info.run_id, Ending(State.STOPPED, "its process is gone"))
        say(f"training {task.key}: what it left is in its run")


def _single(storage: Path, name: str, tracking_uri: str) -> Task:
    key = key_of(name, SINGLE)
    identity = RunIdentity(experiment=name, key=key, id=read_training_id(directory_of(storage, key)))
    return Task(spec={}, storage=storage, tracking_uri=tracking_uri, identity=identity)


def _is_open(run: Run, task: Task) -> bool:
    return run.info.status == "RUNNING" or has_unsent(task.spool)


def _at_work(tasks: Sequence[Task], patience_s: float) -> set[str]:
    """Keys of trainings whose heartbeat moves within `patience_s` seconds of our own clock."""
    seen = {task.key: read_beat(task.directory) for task in tasks}
    moving: set[str] = set()
    deadline = time.monotonic() + patience_s
    while len(moving) < len(tasks) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        moving |= {task.key for task in tasks if read_beat(task.directory) != seen[task.key]}
    return moving
