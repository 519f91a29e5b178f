"""Jobs on the cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ...platform.base.home import find_home
from ...trainers.errors import UserError
from .connections import cluster
from .following import follow_job, tell_end
from .options import AsJsonLines, JobName

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

    from ...platform.ledger.jobs import JobRecord

job = typer.Typer(help="List, follow and stop the jobs of the cluster.")


@job.command("list")
def list_(as_json: AsJsonLines = False) -> None:
    """List the jobs of the cluster and of the ledger, newest first; those whose cluster is gone as last known.

    Example: `advseg job list`
    """
    from ...platform.pages.jobs_page import job_json, jobs_of, listed_jobs, print_jobs
    from ...platform.pages.json_line import json_line

    records = _recorded()
    try:
        with cluster() as (_, client):
            jobs = jobs_of(client, records)
    except UserError as error:
        if not records:
            raise
        typer.echo(f"as the ledger has them, for {error}", err=True)
        jobs = listed_jobs([], records)
    if as_json:
        for each in jobs:
            typer.echo(json_line(job_json(each)))
    else:
        print_jobs(jobs)


@job.command()
def logs(
    name: JobName,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job ends, as it ends.")] = False,
) -> None:
    """Print what a job has printed so far.

    Example: `advseg job logs shapes-demo --follow`
    """
    with _found(name) as (client, id):
        from ...platform.pages.follow import follow_log, log_text
        from ...platform.pages.log_tail import read_log

        if follow:
            tell_end(id, follow_log(client, id, partial(typer.echo, nl=False)).value, err=True)
        else:
            typer.echo(log_text(read_log(client, id)), nl=False)


@job.command()
def follow(name: JobName) -> None:
    """Show a live table of a job until it ends. Ctrl-C detaches; the job goes on.

    Ends with 1 unless the job succeeds. Example: `advseg job follow shapes-demo`
    """
    with _or_ended(), _found(name) as (client, id):
        follow_job(client, id)


@job.command()
def stop(name: JobName) -> None:
    """Stop a job. Submitting its spec again goes on with it.

    Example: `advseg job stop shapes-demo`
    """
    with _found(name) as (client, id):
        from ...platform.cluster.jobs import stop_job

        stop_job(client, id, typer.echo)


@job.command()
def wait(name: JobName) -> None:
    """Wait until a job ends, without a table.

    Ends with 1 unless the job succeeds. Example: `advseg job wait shapes-demo && advseg models list`
    """
    with _or_ended(), _found(name) as (client, id):
        from ...platform.cluster.jobs import wait_for_job

        tell_end(id, wait_for_job(client, id).value, f"`advseg job logs {id}` says why")


class _GoneError(UserError):
    """A job that its ledger knows and the cluster does not."""

    def __init__(self, record: "JobRecord") -> None:
        became = f"{record.state.value}{f', {record.reason}' if record.reason else ''}"
        super().__init__(
            f"job {record.id} was submitted to {record.cluster} and is not known there now: its log went with the head "
            f"that ran it; as last known it is {became}"
        )
        self.record = record


@contextmanager
def _found(name: str) -> "Iterator[tuple[JobSubmissionClient, str]]":
    """A client of the cluster, and the id of the job that is meant. Raises _GoneError if only the ledger knows it."""
    with cluster() as (_, client):
        from ...platform.cluster.jobs import find_job, job_ids

        ids = job_ids(client)
        try:
            id = find_job(name, ids)
        except UserError:
            records = {record.id: record for record in _recorded()}
            raise _GoneError(records[find_job(name, records)]) from None
        yield client, id


@contextmanager
def _or_ended() -> Iterator[None]:
    """Of a job whose cluster is gone tell how it ended, if the ledger has that."""
    try:
        yield
    except _GoneError as error:
        if not error.record.state.is_end:
            raise
        tell_end(error.record.id, error.record.state.value, error.record.reason)


def _recorded() -> "list[JobRecord]":
    """The jobs of the ledger, of which one may do without."""
    from ...platform.ledger.jobs import read_jobs
    from ...platform.spec.ledger_address import ledger_of

    try:
        return read_jobs(find_home() / "runs", ledger_of(None))
    except UserError as error:
        typer.echo(f"without the jobs of the ledger: {error}", err=True)
        return []
