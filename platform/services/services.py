"""The local services: an MLflow server and a Ray head, as `advseg up` starts them.

Each runs in a session of its own until `down`, and is noted in the home folder's `services.json`.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ...trainers.errors import UserError
from .belonging import is_running, jobs_at_work
from .connection import Services, services_of
from .launching import OPTIONS, choose_server_ports, start, stop, wait_until_ready
from .records import ServiceRecord, read_records, write_records
from .servers import MLFLOW, RAY, TITLES, folder
from .state import NAMES

Say = Callable[[str], None]
LOCK = "services.lock"


def up(
    home: Path,
    *,
    mlflow_port: int | None = None,
    dashboard_port: int | None = None,
    cpus: int | None = None,
    accounts: bool = True,
    say: Say,
) -> Services:
    """Starts what does not run yet, and returns when both services answer.

    `cpus` is what Ray may hand out, by default all that the machine has. Without `accounts` MLflow takes requests of
    every user of the machine. A service that died is cleaned up and started anew, at its former port if that is
    free. If one fails to start, everything that this call started is ended again. Raises UserError for a port that
    cannot be had, and ServiceStartError.
    """
    if cpus is not None and cpus < 1:
        raise UserError(f"--cpus must be at least 1, but got {cpus}")
    asked = {MLFLOW: mlflow_port, RAY: dashboard_port}
    home = home.resolve()
    # The second lock is shared by every home of the user's: two that start at once must not choose the
    # same free port.
    with _private(home), _locked(home / LOCK, say=say), _locked(_cache_folder() / LOCK, say=say):
        noted = read_records(home)
        running = {name: record for name, record in noted.items() if is_running(home, name, record)}
        dead = {name: record for name, record in noted.items() if name not in running}
        _refuse_other_ports(running, asked)
        if RAY in running and cpus is not None:
            say(f"the Ray head runs already; --cpus {cpus} takes effect after `advseg down`")
        if MLFLOW in running and running[MLFLOW].accounts is not accounts:
            say(f"the MLflow server runs already; {_access(accounts)} after `advseg down` and another `advseg up`")
        stop(home, dead)
        ports = choose_server_ports(
            [name for name in NAMES if name not in running],
            asked=asked,
            former={name: record.port for name, record in dead.items()},
        )
        started: dict[str, ServiceRecord] = {}
        try:
            for name, port in ports.items():
                say(f"starting {TITLES[name]}")
                started[name] = start(home, name, port=port, cpus=cpus, avoid=ports.values(), accounts=accounts)
                # Noted before it is ready, so that even a killed `up` leaves nothing that `down` cannot find.
                write_records(home, running | started)
            wait_until_ready(home, running | started)
        except BaseException:
            # Nothing has had work to save yet, and a Ray head that is still starting does not heed SIGTERM.
            stop(home, started, grace_s=2)
            write_records(home, running)
            raise
        records = running | started
        for name in NAMES:
            say(f"{TITLES[name]} {'is ready' if name in started else 'runs already'}: {records[name].url}")
    services = services_of(home, records)
    say(f"open MLflow in a browser by {services.mlflow_page}")
    return services


def down(home: Path, *, say: Say) -> bool:
    """Ends both services and all that they started; True if there was something to end.

    Data and logs stay. Also cleans up after a service that died by itself.
    """
    home = home.resolve()
    if not home.is_dir():
        say(f"nothing runs in {home}")
        return False
    with _locked(home / LOCK, say=say):
        records = read_records(home)
        if not records:
            say(f"nothing runs in {home}")
            return False
        if RAY in records and (jobs := jobs_at_work(home, records[RAY])):
            say(f"jobs that still run end, and go on once they are submitted again: {', '.join(jobs)}")
        stop(home, records)
        write_records(home, {})
    say(f"ended {' and '.join(TITLES[name] for name in records)}")
    return True


@contextlib.contextmanager
def _private(home: Path) -> Iterator[None]:
    """Makes the folders of a home. They, and what is written meanwhile, are for their owner's eyes alone."""
    former = os.umask(0o077)
    try:
        for place in (home, *(folder(home, name) for name in NAMES)):
            place.mkdir(parents=True, exist_ok=True)
            if place.stat().st_uid != os.getuid():
                raise UserError(f"{place} must be yours, but is another user's: name a folder by ADVSEG_HOME")
            place.chmod(0o700)
        yield
    finally:
        os.umask(former)


def _cache_folder() -> Path:
    """This user's own, where no other user of the machine can hold a lock."""
    folder = Path.home() / ".cache" / "advseg"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def _access(accounts: bool) -> str:
    return "it asks for an account" if accounts else "it is open to every user of this machine"


def _refuse_other_ports(running: Mapping[str, ServiceRecord], asked: Mapping[str, int | None]) -> None:
    for name, record in running.items():
        if asked[name] not in (None, record.port):
            raise UserError(
                f"{TITLES[name]} runs already at port {record.port} and cannot move to {asked[name]}, "
                f"which {OPTIONS[name]} asks for: run `advseg down` first"
            )


@contextlib.contextmanager
def _locked(path: Path, *, say: Say) -> Iterator[None]:
    """Holds the lock of a file; a second holder waits, and says so."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another `advseg up` or `advseg down`, which holds {path}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
