"""What `advseg status` prints."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..services.state import ServiceState, ServiceStatus

if TYPE_CHECKING:
    from ray.job_submission import JobDetails


def print_services(home: Path, services: Sequence[ServiceStatus]) -> None:
    """What runs, where, and where it writes its log."""
    console = Console()
    console.print(f"services of {home}", markup=False, highlight=False, soft_wrap=True)
    table = Table("service", "state", "where", "log", box=None)
    for service in services:
        log = service.log.relative_to(home) if service.log.is_relative_to(home) else service.log
        table.add_row(service.name, service.state.value, service.url or "", Text(str(log)))
    console.print(table)
    if any(service.state is ServiceState.DEAD for service in services):
        console.print("a dead service is started again by `advseg up`")


def print_jobs(jobs: "Sequence[JobDetails]") -> None:
    """The jobs of the cluster, newest first."""
    table = Table("job", "state", "detail", box=None)
    for job in sorted(jobs, key=lambda job: job.start_time or 0, reverse=True):
        if job.submission_id:
            # A message can quote the job's log, in which brackets are no markup.
            message = Text(" ".join((job.message or "").split())[:80])
            table.add_row(job.submission_id, job.status.value, message)
    Console().print(table if table.rows else "no jobs yet")
