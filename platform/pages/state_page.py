"""What `advseg status` and `advseg job list` print."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ..services.state import ServiceState, ServiceStatus
from .console import VisibleConsole, words
from .shortened import Shortened

if TYPE_CHECKING:
    from ray.job_submission import JobDetails


def print_services(home: Path, services: Sequence[ServiceStatus]) -> None:
    """What runs, where, and where it writes its log."""
    console = VisibleConsole()
    console.print(f"services of {home}", markup=False, highlight=False, soft_wrap=True)
    table = Table("service", "state", "where", "log", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for service in services:
        log = service.log.relative_to(home) if service.log.is_relative_to(home) else service.log
        table.add_row(service.name, service.state.value, words(service.url or ""), words(str(log)))
    console.print(table)
    if any(service.state is ServiceState.DEAD for service in services):
        console.print("a dead service is started again by `advseg up`")
    if any(service.state is ServiceState.SILENT for service in services):
        console.print("a silent service runs, but does not answer or has no node: `advseg down`, then `advseg up`")


def print_jobs(jobs: "Sequence[JobDetails]") -> None:
    """The jobs of the cluster, newest first, each on one line."""
    table = Table("job", "state", "detail", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for job in newest_first(jobs):
        table.add_row(job.submission_id, job.status.value, Shortened(words(_detail(job.message or ""))))
    VisibleConsole().print(table if table.rows else "no jobs yet")


def _detail(message: str) -> str:
    """The error in a job's log, which Ray's message ends with, if there is one; else how the message begins."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors[-1:] or lines[:1] or [""])[0]


def newest_first(jobs: "Sequence[JobDetails]") -> "list[JobDetails]":
    """The jobs that were submitted, by when they began."""
    submitted = [job for job in jobs if job.submission_id]
    return sorted(submitted, key=lambda job: job.start_time or 0, reverse=True)


def services_json(home: Path, services: Sequence[ServiceStatus], jobs: "Sequence[JobDetails] | None") -> dict[str, Any]:
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
        "jobs": None if jobs is None else [job_json(job) for job in newest_first(jobs)],
    }


def job_json(job: "JobDetails") -> dict[str, Any]:
    """What is known of a job; times are seconds since 1970."""
    return {
        "id": job.submission_id,
        "name": (job.metadata or {}).get("name"),
        "state": job.status.value,
        "message": job.message,
        "start_time": None if job.start_time is None else job.start_time / 1000,
        "end_time": None if job.end_time is None else job.end_time / 1000,
    }
