"""The MLflow server that `advseg up` runs on this machine, as the files of its home folder tell of it."""

import os
from dataclasses import dataclass
from pathlib import Path

from .files import read_document
from .home import find_home

RECORDS, MLFLOW, PASSWORD = "services.json", "mlflow", "password"
"""In the home folder: what is noted of the services; the server's folder, and in it the file with the password."""
USER = "advseg"
HOSTS = ("127.0.0.1", "localhost", "::1")
"""Names of this machine to itself, which no proxy can reach."""
_TOLERANCE_S = 0.5
"""Between two ways to tell when a process began."""


@dataclass(frozen=True, kw_only=True)
class LocalServer:
    """A server that runs."""

    url: str
    password: str | None
    """Of its account `advseg`; None if it asks for none."""


def find_local_server() -> LocalServer | None:
    """The server of the home folder; None if none runs.

    Only one whose process is this user's and began when it is noted to have: to any other on its port, as after a
    boot of the machine, the password is not shown.
    """
    home = find_home()
    try:
        noted = read_document(home / RECORDS)["services"][MLFLOW]
        if not _runs(noted["pid"], noted["created"]):
            return None
        password = (home / MLFLOW / PASSWORD).read_text().strip() if noted.get("accounts") else None
        return LocalServer(url=f"http://127.0.0.1:{int(noted['port'])}", password=password)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None


def _runs(pid: int, created: float) -> bool:
    """Whether a process of this user began so many seconds after the machine's boot. Only Linux tells."""
    process = Path(f"/proc/{int(pid)}")
    # Of what follows the program's name, which may hold anything, the twentieth is the start in ticks of the clock.
    ticks = int((process / "stat").read_text().rpartition(")")[2].split()[19])
    began = ticks / os.sysconf("SC_CLK_TCK")
    return process.stat().st_uid == os.getuid() and abs(began - created) < _TOLERANCE_S
