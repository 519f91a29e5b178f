"""What `advseg job list` prints, and `advseg status` of jobs: those of the cluster and those that it does not know."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ..ledger.jobs import JobRecord
from .console import VisibleConsole, words
from .shortened import Shortened

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

UNKNOWN = "UNKNOWN"
"""What is said of a job whose end nobody has told, and whose cluster cannot tell any more, or not from here."""


@dataclass(frozen=True, kw_only=True)
class ListedJob:
    """What is known of a job; times are seconds since 1970."""

    id: str
    name: str | None
    state: str
    message: str | None
    submitted_by: str | None
    cluster: str | None
    start_time: float | None
    end_time: float | None


def listed_jobs(details: "Sequence[JobDetails] | None", records: Sequence[JobRecord] = ()) -> list[ListedJob]:
    """The jobs that a cluster knows, if one answers, and those of a ledger, newest first."""
    by_id = {record.id: record for record in records}
    on_cluster = [_of_cluster(job, by_id.get(job.submission_id)) for job in details or () if job.submission_id]
    known = {job.id for job in on_cluster}
    gone = [_of_ledger(record) for record in records if record.id not in known]
    return sorted(on_cluster + gone, key=lambda job: job.start_time or 0, reverse=True)


def _of_cluster(job: "JobDetails", record: JobRecord | None) -> ListedJob:
    return ListedJob(
        id=job.submission_id or "",
        name=(job.metadata or {}).get("name"),
        state=job.status.value,
        message=job.message,
        submitted_by=record.submitted_by if record else None,
        cluster=record.cluster if record else None,
        start_time=None if job.start_time is None else job.start_time / 1000,
        end_time=None if job.end_time is None else job.end_time / 1000,
    )


def _of_ledger(record: JobRecord) -> ListedJob:
    lost = f"{record.cluster} does not say" if record.is_sent else f"it may not have reached {record.cluster}"
    return ListedJob(
        id=record.id,
        name=record.name,
        state=record.state.value if record.state.is_end else UNKNOWN,
        message=record.reason if record.state.is_end else lost,
        submitted_by=record.submitted_by,
        cluster=record.cluster,
        start_time=record.submitted_at,
        end_time=record.ended_at,
    )


def print_jobs(jobs: Sequence[ListedJob]) -> None:
    """A line for each job."""
    table = Table("job", "state", "detail", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for job in jobs:
        table.add_row(job.id, job.state, Shortened(words(_detail(job.message or ""))))
    VisibleConsole().print(table if table.rows else "no jobs yet")


def _detail(message: str) -> str:
    """The error in a job's log, which Ray's message ends with, if there is one; else how the message begins."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors[-1:] or lines[:1] or [""])[0]


def job_json(job: ListedJob) -> dict[str, Any]:
    """All that is known of a job."""
    return asdict(job)
