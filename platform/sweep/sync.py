"""What killed processes left behind is brought to MLflow, and runs that nobody works on any more are ended."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from ...trainers.errors import UserError, listed
from ..ledger.ledger import Ledger
from ..ledger.opening import reopen_ledger
from ..ledger.ownership import PATIENCE_S
from ..ledger.reading import read_location, sweep_names
from ..spec.ledger_address import LEDGER
from ..storage.opening import open_store
from ..storage.s3_client import AT_ONCE
from ..storage.store import Store, StoreError
from ..tracking.clients import Clients
from ..tracking.ending import Ending, State
from ..tracking.identity import sweep_identity
from ..tracking.noted import FILE as NOTED
from ..tracking.noted import Noted, read_noted
from ..tracking.patience import reason_of
from ..tracking.runs import close_run, ensure_run, read_run, refuse_another
from ..workers.heartbeat import read_beat
from ..workers.settle import deliver, has_news, last_sign, left_behind
from ..workers.task import Task
from .epochs import newest_epoch
from .settler import settle_trials
from .tasks import SweepTasks

Say = Callable[[str], None]
_POLL_S = 0.2


def sync(clients: Clients, store: Store, ledger: str | None, names: Sequence[str], say: Say) -> None:
    """Settle the sweeps of these names, or all of a ledger and the trainings without one.

    Each by itself. Raises UserError that names all that could not be.
    """
    known: list[str] = []
    if store.folder or ledger:
        known = sweep_names(store.folder, ledger)
    else:
        # Trainings need none.
        say(f"left alone: sweeps, whose ledger is elsewhere: name it by --ledger or {LEDGER}")
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"there is no sweep {unknown[0]}; known sweeps: {', '.join(known) or 'none yet'}")
    problems = sync_sweeps(clients, store, names or known, ledger, say)
    if not names:
        problems += sync_trainings(clients, store, say)
    if problems:
        raise UserError(listed(problems, "what was to be synced"))


def sync_sweeps(clients: Clients, store: Store, names: Iterable[str], ledger: str | None, say: Say) -> list[str]:
    """Make the runs of sweeps say what the ledger says; a sweep that somebody owns is told and left alone.

    What a sweep has left lies in its own storage, if the ledger has that, and else in this one.
    Returns a line for each training or sweep of which this could not be done.
    """
    problems: list[str] = []
    for name in names:
        try:
            place = storage_of(name, store, ledger)
            reopened = reopen_ledger(place.folder, name, ledger, above=newest_epoch(place, name))
        except UserError as error:
            say(f"left alone: {error}")
            continue
        except StoreError as error:
            problems.append(f"sweep {name}: {reason_of(error)}")
            continue
        with closing(reopened):
            try:
                missed = _sync_sweep(clients.of(read_noted(place.at(name))), place, reopened)
            except Exception as error:
                missed = [reason_of(error)]
        if missed:
            problems += [f"sweep {name}: {problem}" for problem in missed]
        else:
            say(f"sweep {name}: its runs are as its ledger has them")
    return problems


def storage_of(sweep: str, store: Store, ledger: str | None) -> Store:
    """Where a sweep keeps its files: in its own storage, if its ledger has that, and else in this one.

    Raises UserError for a folder that is not on this machine.
    """
    location = read_location(sweep, ledger)
    if location is None:
        return store
    place = open_store(location.storage, AT_ONCE)
    if place.folder and not place.folder.is_dir():
        raise UserError(f"sweep {sweep}, whose storage {location.storage} is not on this machine")
    return place


def _sync_sweep(client: MlflowClient, store: Store, ledger: Ledger) -> list[str]:
    document = ledger.spec.model_dump(mode="json")
    tasks = SweepTasks(
        document=document,
        store=store,
        tracking_uri=client.tracking_uri,
        epoch=ledger.ownership.epoch,
        sweep_id=ledger.sweep_id,
        planned=ledger.planned(),
    )
    identity = sweep_identity(document, ledger.sweep_id)
    refuse_another(client, identity)
    parent = read_run(client, identity.experiment, identity.key)
    run_id = parent.info.run_id if parent else ensure_run(client, identity)
    problems = settle_trials(client, ledger, tasks)
    if parent is None or parent.info.status == "RUNNING":
        close_run(client, run_id, Ending(State.STOPPED, "its driver is gone"))
    return problems


def sync_trainings(clients: Clients, store: Store, say: Say, *, patience_s: float = PATIENCE_S) -> list[str]:
    """Bring what trainings without a sweep have left, and end their runs, if their heartbeats stand still so long.

    Returns a line for each training of which this could not be done.
    """
    problems: list[str] = []
    left: list[tuple[Task, MlflowClient]] = []
    try:
        singles = list(_singles(store))
    except StoreError as error:
        return [f"trainings without a sweep: {reason_of(error)}"]
    for noted, task in singles:
        try:
            client = clients.of(noted)
            refuse_another(client, task.identity)
            if _is_open(read_run(client, task.identity.experiment, task.key), task):
                left.append((task, client))
        except Exception as error:
            problems.append(f"training {task.key}: {reason_of(error)}")
    at_work = _at_work([task for task, _ in left], patience_s)
    for task, client in left:
        if task.key in at_work:
            say(f"left alone: training {task.key} is at work")
            continue
        try:
            _sync_training(client, task)
            say(f"training {task.key}: what it left is in its run")
        except Exception as error:
            problems.append(f"training {task.key}: {reason_of(error)}")
    return problems


def _sync_training(client: MlflowClient, task: Task) -> None:
    run_id = ensure_run(client, task.identity, reopen=False)
    with left_behind(task) as directory:
        deliver(client, run_id, task.key, directory)
        if client.get_run(run_id).info.status == "RUNNING":
            close_run(client, run_id, Ending(State.STOPPED, "its process is gone"), end_time=last_sign(directory))


def _singles(store: Store) -> Iterator[tuple[Noted, Task]]:
    """The trainings that belong to no sweep, of this ledger or any other."""
    keys = store.keys()
    for parts in (key.split("/") for key in keys):
        noted = read_noted(store.at("/".join(parts[:2]))) if parts[2:] == [NOTED] else None
        if noted is not None and noted.identity.parent is None:
            yield noted, Task(spec={}, store=store, tracking_uri=noted.tracking_uri, identity=noted.identity)


def _is_open(run: Run | None, task: Task) -> bool:
    if run is not None and run.info.status == "RUNNING":
        return True
    with left_behind(task) as directory:
        return has_news(directory)


def _at_work(tasks: Sequence[Task], patience_s: float) -> set[str]:
    """Keys of trainings whose heartbeat moves within `patience_s` seconds of our own clock."""
    seen = {task.key: read_beat(task.own) for task in tasks}
    moving: set[str] = set()
    deadline = time.monotonic() + patience_s
    while len(moving) < len(tasks) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        moving |= {task.key for task in tasks if read_beat(task.own) != seen[task.key]}
    return moving
