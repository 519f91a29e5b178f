"""The jobs that were submitted, in a table of their own: each has its number once, and outlives its cluster here."""

import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from sqlalchemy import Engine, inspect, select
from sqlalchemy.exc import IntegrityError

from ..base.keys import job_id
from ..base.user import user_and_host
from .database import close_database, open_database, reading
from .patience import patiently, repeated
from .schema import JOBS


class JobState(StrEnum):
    """What became of a job, in the words of Ray, as far as they are Ray's."""

    SUBMITTING = "SUBMITTING"
    """It has its number, and the cluster may not have heard of it."""
    SUBMITTED = "SUBMITTED"
    """The cluster has it, which alone knows more."""
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"

    @property
    def is_end(self) -> bool:
        """Whether nothing more becomes of it."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED)


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """A job as the ledger has it."""

    name: str
    number: int = 0
    """0 until it has one."""
    digest: str
    """Of what it is to do."""
    cluster: str
    """Address of its dashboard, as its submitter has it."""
    submitted_by: str
    submitted_at: float
    state: JobState = JobState.SUBMITTING
    reason: str = ""
    """Why it failed; empty otherwise."""
    ended_at: float | None = None

    @classmethod
    def of_now(cls, name: str, digest: str, cluster: str) -> Self:
        """One that this user submits now."""
        by = user_and_host()
        return cls(name=name, digest=digest, cluster=cluster, submitted_by=by, submitted_at=time.time())

    @property
    def id(self) -> str:
        """`<name>-<number>`."""
        return job_id(self.name, self.number)

    @property
    def is_sent(self) -> bool:
        """Whether the cluster has it for certain."""
        return self.state is not JobState.SUBMITTING


def read_jobs(storage: Path, ledger: str | None) -> list[JobRecord]:
    """All jobs of a ledger, in the order in which they were submitted. Nothing is made or changed."""
    with reading(storage, ledger) as database:
        if database is None or not inspect(database.engine).has_table(JOBS.name):
            return []
        return _read(database.engine)


class JobTable:
    """The jobs of a ledger, which is made if there is none, for whoever submits one."""

    def __init__(self, storage: Path, ledger: str | None) -> None:
        """Raises UserError if the ledger cannot be opened."""
        self._database = open_database(storage, ledger)

    def close(self) -> None:
        """End all connections."""
        close_database(self._database)

    def jobs(self, name: str) -> list[JobRecord]:
        """The jobs of a name, in the order in which they were submitted."""
        return _read(self._database.engine, name)

    def enter(self, record: JobRecord) -> bool:
        """Give a job its number; False if another submitter has taken that."""

        def enter() -> bool:
            try:
                with self._database.engine.begin() as connection:
                    connection.execute(JOBS.insert().values(**asdict(record) | {"state": record.state.value}))
            except IntegrityError:
                return False
            return True

        # A first try whose answer was lost may have entered it.
        return patiently(enter, lambda: record in self.jobs(record.name) or enter())

    def note(self, name: str, number: int, state: JobState, reason: str = "") -> None:
        """Hold what became of a job, unless it has ended."""
        note_job(self._database.engine, name, number, state, reason)


@repeated
def note_job(engine: Engine, name: str, number: int, state: JobState, reason: str = "") -> None:
    """Hold what became of a job, unless it has ended; nothing happens if it is not there."""
    ended_at = time.time() if state.is_end else None
    mine = (JOBS.c.name == name, JOBS.c.number == number, JOBS.c.ended_at.is_(None))
    with engine.begin() as connection:
        connection.execute(JOBS.update().where(*mine).values(state=state.value, reason=reason, ended_at=ended_at))


@repeated
def _read(engine: Engine, name: str | None = None) -> list[JobRecord]:
    query = select(JOBS).order_by(JOBS.c.submitted_at, JOBS.c.number)
    if name is not None:
        query = query.where(JOBS.c.name == name)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return [JobRecord(**{**row, "state": JobState(row["state"])}) for row in rows]
