"""What `advseg job list` prints, and `advseg status` of jobs: those of the cluster and those that it does not know."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from ..base.events import Stage, parse
from ..ledger.jobs import JobRecord
from .console import VisibleConsole, words
from .shortened import Shortened

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

WAITING = "WAITING"
"""What is said of a job that runs as Ray has it, but waits for nodes, CPUs or GPUs."""
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


def jobs_of(client: "JobSubmissionClient", records: Sequence[JobRecord] = ()) -> list[ListedJob]:
    """The jobs that a cluster knows, and those of a ledger, newest first."""
    return listed_jobs(client.list_jobs(), records, lambda id: _waits_for(client, id))


def listed_jobs(
    details: "Sequence[JobDetails]",
    records: Sequence[JobRecord] = (),
    waits_for: Callable[[str], str | None] = lambda id: None,
) -> list[ListedJob]:
    """Jobs of a cluster, which tells what one waits for, if it does, and of a ledger, newest first."""
    by_id = {record.id: record for record in records}
    on_cluster = [_of_cluster(job, by_id.get(job.submission_id), waits_for) for job in details if job.submission_id]
    known = {job.id for job in on_cluster}
    gone = [_of_ledger(record) for record in records if record.id not in known]
    return sorted(on_cluster + gone, key=lambda job: job.start_time or 0, reverse=True)


def _waits_for(client: "JobSubmissionClient", id: str) -> str | None:
    """What a job that runs waits for, as it told last; None if it does anything else."""
    try:
        lines = client.get_job_logs(id).splitlines()
    except RuntimeError:
        return None  # The node that has the log does not answer.
    last = next((event for line in reversed(lines) if (event := parse(line))), None)
    return last.text if isinstance(last, Stage) and last.waits else None


def _of_cluster(job: "JobDetails", record: JobRecord | None, waits_for: Callable[[str], str | None]) -> ListedJob:
    id, state = job.submission_id or "", job.status.value
    waits = waits_for(id) if state == "RUNNING" else None
    return ListedJob(
        id=id,
        name=(job.metadata or {}).get("name"),
        state=WAITING if waits else state,
        message=waits or job.message,
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
