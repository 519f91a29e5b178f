"""The jobs that a cluster knows: which one a user means, its end, and ending it."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ray.job_submission import JobStatus, JobSubmissionClient

from ...trainers.errors import UserError
from ..base.keys import job_id, job_parts

if TYPE_CHECKING:
    from ..ledger.jobs import JobRecord

_POLL_S = 0.5
_SENDING_S = 120.0
"""How long a submitter is taken to be sending a job, of which nothing has arrived, under a name that is asked for."""
STOP_LIMIT_S = 90.0
"""How long a job may take to stop, which is killed after a third of that."""


def numbers_of(name: str, ids: Iterable[str]) -> list[int]:
    """The numbers of the jobs of a name, lowest first."""
    return sorted(parts[1] for id in ids if (parts := job_parts(id)) and parts[0] == name)


def choose_number(asked: "JobRecord", records: "Sequence[JobRecord]", at_work: Mapping[str, bool]) -> tuple[int, bool]:
    """The number of a job that is asked for, and whether it is a new one.

    `records` are the ledger's of its name, read before `at_work`: whether the jobs that the cluster knows are at work.
    A job of the name and the same digest that is at work is that job; of another digest it raises UserError. One that
    the cluster has got and does not know any more ended with the head that had it.
    """
    for record in records:
        is_same = record.digest == asked.digest
        # Whose clock goes ahead is not sending until ours is there.
        is_fresh = abs(asked.submitted_at - record.submitted_at) < _SENDING_S
        is_coming = not record.is_sent and record.cluster == asked.cluster and (is_same or is_fresh)
        if record.state.is_end or not at_work.get(record.id, is_coming):
            continue
        if is_same:
            return record.number, False
        raise UserError(
            f"job {record.id} of this name runs with another spec: stop it by `advseg job stop {record.id}` "
            f"or submit under another name, as in --set name={asked.name}-2"
        )
    # Another ledger's jobs may be on the same cluster.
    numbers = [record.number for record in records] + numbers_of(asked.name, at_work)
    return max(numbers, default=0) + 1, True


def newest_job(name: str, ids: Iterable[str]) -> str:
    """The id of the newest job of a name. Raises UserError if it has none."""
    numbers = numbers_of(name, ids)
    if not numbers:
        raise UserError(f"there is no job of the name {name}: `advseg job list` lists the jobs")
    return job_id(name, numbers[-1])


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


def stop_job(client: JobSubmissionClient, id: str, say: Callable[[str], object]) -> None:
    """Ask a job to stop, and wait until it has, saying both. Raises UserError if it had ended, or does not for long."""
    if client.get_job_status(id).is_terminal():
        raise UserError(f"job {id} has ended already: `advseg job list` says how")
    client.stop_job(id)
    say(f"job {id} is asked to stop")
    if not wait_for_job(client, id, STOP_LIMIT_S).is_terminal():
        raise UserError(
            f"job {id} was told to stop, but has not ended in {STOP_LIMIT_S:g} s: `advseg status` says whether its "
            f"cluster runs, and `advseg job list` what became of it"
        )
    say(f"job {id} is stopped")
