"""Jobs on the cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from .connections import cluster
from .following import follow_job, tell_end
from .options import AsJsonLines, JobName

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

job = typer.Typer(help="List, follow and stop the jobs of the cluster.")


@job.command("list")
def list_(as_json: AsJsonLines = False) -> None:
    """List the jobs of the cluster, newest first.

    Example: `advseg job list`
    """
    from ...platform.pages.json_line import json_line
    from ...platform.pages.state_page import job_json, newest_first, print_jobs

    with cluster() as (_, client):
        jobs = client.list_jobs()
    if as_json:
        for each in newest_first(jobs):
            typer.echo(json_line(job_json(each)))
    else:
        print_jobs(jobs)


@job.command()
def logs(name: JobName) -> None:
    """Print what a job has printed so far.

    Example: `advseg job logs shapes-demo`
    """
    with _found(name) as (client, id):
        from ...platform.pages.follow import log_text

        typer.echo(log_text(client.get_job_logs(id)), nl=False)


@job.command()
def follow(name: JobName) -> None:
    """Show a live table of a job until it ends. Ctrl-C detaches; the job goes on.

    Ends with 1 unless the job succeeds. Example: `advseg job follow shapes-demo`
    """
    with _found(name) as (client, id):
        follow_job(client, id)


@job.command()
def stop(name: JobName) -> None:
    """Stop a job. Submitting its spec again goes on with it.

    Example: `advseg job stop shapes-demo`
    """
    with _found(name) as (client, id):
        from ...platform.cluster.jobs import stop_job

        stop_job(client, id)
        typer.echo(f"job {id} is stopped")


@job.command()
def wait(name: JobName) -> None:
    """Wait until a job ends, without a table.

    Ends with 1 unless the job succeeds. Example: `advseg job wait shapes-demo && advseg models list`
    """
    with _found(name) as (client, id):
        from ...platform.cluster.jobs import wait_for_job

        tell_end(id, wait_for_job(client, id))


@contextmanager
def _found(name: str) -> "Iterator[tuple[JobSubmissionClient, str]]":
    """A client of the cluster, and the id of the job that is meant."""
    with cluster() as (_, client):
        from ...platform.cluster.jobs import find_job, job_ids

        yield client, find_job(name, job_ids(client))
