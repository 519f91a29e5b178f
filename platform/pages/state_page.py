"""What `advseg status` prints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from ..services.state import ServiceState, ServiceStatus
from .console import VisibleConsole, words
from .jobs_page import ListedJob, job_json


def print_services(home: Path, services: Sequence[ServiceStatus], elsewhere: Mapping[str, str]) -> None:
    """What runs, where, and where it writes its log; and what the environment names elsewhere, by service."""
    console = VisibleConsole()
    console.print(f"services of {home}", markup=False, highlight=False, soft_wrap=True)
    table = Table("service", "state", "where", "log", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for service in services:
        other = elsewhere.get(service.name)
        if not other or service.state is not ServiceState.DOWN:
            log = service.log.relative_to(home) if service.log.is_relative_to(home) else service.log
            table.add_row(service.name, service.state.value, words(service.url or ""), words(str(log)))
        if other and other != service.url:
            table.add_row(service.name, "elsewhere", words(other))
    console.print(table)
    if any(service.state is ServiceState.DEAD for service in services):
        console.print("a dead service is started again by `advseg up`")
    if any(service.state is ServiceState.SILENT for service in services):
        console.print("a silent service runs, but does not answer or has no node: `advseg down`, then `advseg up`")


def services_json(home: Path, services: Sequence[ServiceStatus], jobs: Sequence[ListedJob] | None) -> dict[str, Any]:
    """What is printed of the services and of the jobs, which are None where the cluster does not run."""
    return {
        "home": str(home),
        "services": [
            {
                "name": service.name,
                "state": service.state.value,
                "url": service.url,
                "pid": service.pid,
                "log": str(service.log),
            }
            for service in services
        ],
        "jobs": None if jobs is None else [job_json(job) for job in jobs],
    }
