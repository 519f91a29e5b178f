"""The jobs that a cluster knows: which one a user means, its end, and ending it.

A job's id is `<name>-<n>`, for Ray refuses an id that was used; `n` is greater the newer the job is.
"""

import math
import re
import time
from collections.abc import Iterable

from ray.job_submission import JobStatus, JobSubmissionClient

from ...trainers.errors import UserError

_ID = re.compile(r"(?P<name>.+)-(?P<number>[1-9][0-9]*)")
_POLL_S = 0.5
STOP_LIMIT_S = 90.0
"""How long a job may take to stop, which is killed after a third of that."""


def numbers_of(name: str, ids: Iterable[str]) -> list[int]:
    """The numbers of the jobs of a name, lowest first. A job `a-1-1` is the first of `a-1`, and none of `a`."""
    parts = (_ID.fullmatch(id) for id in ids)
    return sorted(int(part["number"]) for part in parts if part and part["name"] == name)


def newest_job(name: str, ids: Iterable[str]) -> str:
    """The id of the newest job of a name. Raises UserError if it has none."""
    numbers = numbers_of(name, ids)
    if not numbers:
        raise UserError(f"there is no job of the name {name}: `advseg job list` lists the jobs")
    return f"{name}-{numbers[-1]}"


def find_job(asked: str, ids: Iterable[str]) -> str:
    """The id of the job that a user means by its id, or by its name, of which the newest is meant.

    What is an id is that very job, though it be a name as well. Raises UserError if there is no such job.
    """
    ids = list(ids)
    return asked if asked in ids else newest_job(asked, ids)


def job_ids(client: JobSubmissionClient) -> list[str]:
    """The ids of all jobs that were submitted."""
    return [job.submission_id for job in client.list_jobs() if job.submission_id]


def wait_for_job(client: JobSubmissionClient, id: str, limit_s: float = math.inf) -> JobStatus:
    """How a job ended, once it has; or what it does after so many seconds."""
    deadline = time.monotonic() + limit_s
    while not (status := client.get_job_status(id)).is_terminal() and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return status


def stop_job(client: JobSubmissionClient, id: str) -> None:
    """Ask a job to stop and wait until it has. Raises UserError if it has ended, or does not end for long."""
    if client.get_job_status(id).is_terminal():
        raise UserError(f"job {id} has ended already: `advseg job list` says how")
    client.stop_job(id)
    if not wait_for_job(client, id, STOP_LIMIT_S).is_terminal():
        raise UserError(
            f"job {id} was told to stop, but has not ended in {STOP_LIMIT_S:g} s: `advseg status` says whether its "
            f"cluster runs, and `advseg job list` what became of it"
        )
