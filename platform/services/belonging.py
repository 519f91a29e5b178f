"""Which processes and folders are a service's. What is noted of them is not believed, for it decides what is ended."""

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

import psutil

from ..base.keys import JOB
from ..base.processes import find, is_zombie
from .records import ServiceRecord
from .servers import MLFLOW, RAY, database_url, folder, ray_temp_dir

# Ray's sockets allow 107 bytes for their whole path, so what lies in it must not depend on the home's depth.
TEMP_ROOT = Path("/tmp")
PREFIX = "advseg-"
DRIVERS = "advseg.jobs."
"""How the names of the modules begin that a job's driver runs."""
HOME = "home"
"""File of a temporary folder that names the home whose service it serves."""


def make_temp_dir(home: Path) -> Path:
    """A temporary folder for a service of this home, for its user's eyes alone."""
    temp_dir = Path(tempfile.mkdtemp(prefix=PREFIX, dir=TEMP_ROOT))
    (temp_dir / HOME).write_text(str(home))
    return temp_dir


def remove_temp_dir(temp_dir: Path, home: Path) -> None:
    """Remove a temporary folder, if it is one of this home."""
    if is_temp_dir(temp_dir, home):
        shutil.rmtree(temp_dir, ignore_errors=True)


def is_temp_dir(temp_dir: Path, home: Path) -> bool:
    """Whether a folder is one that this user made for a service of this home."""
    if temp_dir.parent != TEMP_ROOT or not temp_dir.name.startswith(PREFIX):
        return False
    try:
        status = temp_dir.lstat()
        return (
            stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and (temp_dir / HOME).read_text() == str(home)
        )
    except (OSError, ValueError):
        return False


def is_running(home: Path, name: str, record: ServiceRecord) -> bool:
    """Whether the service's first process still runs."""
    return _first(home, name, record) is not None


def members(home: Path, name: str, record: ServiceRecord) -> set[psutil.Process]:
    """Every living process of a service, also of one whose first process has died. The caller is never among them.

    Those are the first process, those with the service's own `TMPDIR`, as job drivers have it which Ray starts in
    sessions of their own, all that these began, and, for a session cannot be joined, the rest of the first one's.
    """
    first = _first(home, name, record)
    mine = [process for process in psutil.process_iter() if _is_mine(process)]
    found = {first} if first is not None else set[psutil.Process]()
    if is_temp_dir(record.temp_dir, home):
        found |= {process for process in mine if _temp_dir(process) == record.temp_dir}
    if any(_session(process) == record.pid for process in found):
        found |= {process for process in mine if _session(process) == record.pid}
    for process in list(found):
        with contextlib.suppress(psutil.Error):
            found |= {child for child in process.children(recursive=True) if _is_mine(child)}
    return {process for process in found if process.pid != os.getpid() and not is_zombie(process)}


def jobs_at_work(home: Path, record: ServiceRecord) -> list[str]:
    """The ids of the jobs whose drivers run, which the Ray head has started; others of a job's processes outlive it."""
    drivers = filter(_is_driver, members(home, RAY, record))
    return sorted(filter(None, {_began_with(process, JOB) for process in drivers}))


def _is_driver(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(word.startswith(DRIVERS) for word in process.cmdline())
    return False


def _first(home: Path, name: str, record: ServiceRecord) -> psutil.Process | None:
    """The service's first process, if there is one of its start time, user, folder, command line and `TMPDIR`."""
    named = database_url(home) if name == MLFLOW else str(ray_temp_dir(record.temp_dir))
    with contextlib.suppress(psutil.Error, OSError):
        process = find(record.process)
        if (
            process is not None
            and not is_zombie(process)
            and _is_mine(process)
            and Path(process.cwd()) == folder(home, name)
            and named in process.cmdline()
            and _temp_dir(process) == record.temp_dir
        ):
            return process
    return None


def _is_mine(process: psutil.Process) -> bool:
    try:
        return process.uids().real == os.getuid()
    except psutil.Error:
        return False


def _temp_dir(process: psutil.Process) -> Path | None:
    named = _began_with(process, "TMPDIR")
    return Path(named) if named else None


def _began_with(process: psutil.Process, variable: str) -> str | None:
    """What an environment variable was when a process began. Some programs write their title over it."""
    with contextlib.suppress(psutil.Error, OSError):
        return process.environ().get(variable)
    return None


def _session(process: psutil.Process) -> int | None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        return os.getsid(process.pid)
    return None
