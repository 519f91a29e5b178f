"""What is known of the local services, and whether they answer."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from .belonging import is_running
from .records import ServiceRecord, read_records
from .servers import MLFLOW, RAY, log_path, ready_version

NAMES = (MLFLOW, RAY)


class ServiceState(Enum):
    RUNNING = "running"
    SILENT = "silent"  # its process runs, but it does not answer, or a cluster has no node to run anything on
    DEAD = "dead"  # noted as started, but gone
    DOWN = "down"


@dataclass(frozen=True, kw_only=True)
class ServiceStatus:
    name: str
    state: ServiceState
    log: Path
    url: str | None = None  # None if and only if the service is down
    pid: int | None = None


def status(home: Path) -> list[ServiceStatus]:
    """The state of both services. Those whose processes run are asked whether they are ready for work."""
    home = home.resolve()
    records = read_records(home)
    return [_status(home, name, records.get(name)) for name in NAMES]


def _status(home: Path, name: str, record: ServiceRecord | None) -> ServiceStatus:
    if record is None:
        return ServiceStatus(name=name, state=ServiceState.DOWN, log=log_path(home, name))
    if not is_running(home, name, record):
        state = ServiceState.DEAD
    elif ready_version(home, name, record.url) is None:
        state = ServiceState.SILENT
    else:
        state = ServiceState.RUNNING
    return ServiceStatus(name=name, state=state, url=record.url, pid=record.pid, log=log_path(home, name))
