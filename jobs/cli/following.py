"""Submitting a job and following it, as several verbs do."""

from typing import TYPE_CHECKING

import typer

from ...platform.base.home import find_home
from .connections import cluster

if TYPE_CHECKING:
    from ray.job_submission import JobStatus, JobSubmissionClient

    from ...platform.spec.spec import Spec


def submit_job(spec: "Spec", follow: bool) -> None:
    """Submit a job, say its id, and follow it or say how. Raises typer.Exit as `follow_job` does."""
    with cluster() as (services, client):
        from ...platform.cluster.submit import submit
        from ...platform.spec.paths import missing_files

        job = submit(client, spec, services, find_home())
        typer.echo(f"job {job.id} {'submitted' if job.is_new else 'runs already'}")
        for problem in missing_files(spec.model_dump(mode="json")):
            typer.echo(f"{problem.key} is not on this machine: it is looked for on the cluster before anything trains")
        if follow:
            follow_job(client, job.id)
        else:
            typer.echo(f"`advseg job follow {job.id}` follows it, `advseg job stop {job.id}` stops it")


def follow_job(client: "JobSubmissionClient", id: str) -> None:
    """Show a job until it ends. Raises typer.Exit unless it succeeds; Ctrl-C leaves it running."""
    from ...platform.pages.console import VisibleConsole
    from ...platform.pages.follow import follow

    try:
        status = follow(client, id, VisibleConsole())
    except KeyboardInterrupt:
        typer.echo(f"\ndetached; job {id} goes on: `advseg job follow {id}` shows it, `advseg job stop {id}` stops it")
        return
    tell_end(id, status)


def tell_end(id: str, status: "JobStatus") -> None:
    """Say how a job ended. Raises typer.Exit with 1 unless it succeeded."""
    failed = status.value == "FAILED"
    typer.echo(f"job {id} ended: {status.value}" + (f"; `advseg job logs {id}` says why" if failed else ""))
    if status.value != "SUCCEEDED":
        raise typer.Exit(1)
