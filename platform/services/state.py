"""What is known of the local services without asking them."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..base.processes import is_alive
from .records import ServiceRecord, read_records
from .servers import MLFLOW, RAY, log_path

NAMES = (MLFLOW, RAY)


class ServiceState(Enum):
    RUNNING = "running"
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
    """What is known of both services; whether a running one answers is not asked."""
    home = home.resolve()
    records = read_records(home)
    return [_status(home, name, records.get(name)) for name in NAMES]


def _status(home: Path, name: str, record: ServiceRecord | None) -> ServiceStatus:
    if record is None:
        return ServiceStatus(name=name, state=ServiceState.DOWN, log=log_path(home, name))
    state = ServiceState.RUNNING if is_alive(record.process) else ServiceState.DEAD
    return ServiceStatus(name=name, state=state, url=record.url, pid=record.pid, log=Path(record.log))
