"""The services of this machine, and what they know."""

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from ...platform.base.home import find_home
from .connections import cluster, mlflow
from .options import AsJson, Ledger, Storage, store_at

if TYPE_CHECKING:
    from ...platform.services.connection import Services

PANEL = "Services"
verbs = typer.Typer()


@verbs.command(rich_help_panel=PANEL)
def up(
    mlflow_port: Annotated[int | None, typer.Option(metavar="PORT", help="Port of the MLflow server.")] = None,
    dashboard_port: Annotated[int | None, typer.Option(metavar="PORT", help="Port of the Ray dashboard.")] = None,
    cpus: Annotated[int | None, typer.Option(metavar="N", help="CPUs that Ray may hand out; all by default.")] = None,
    open_mlflow: Annotated[
        bool, typer.Option("--open-mlflow", help="Let every user of this machine into MLflow, without a password.")
    ] = False,
) -> None:
    """Start an MLflow server and a Ray head on this machine.

    They go on running when the command has ended. Example: `advseg up --cpus 4`
    """
    from ...platform.services import services

    home = find_home()
    running = services.up(
        home,
        mlflow_port=mlflow_port,
        dashboard_port=dashboard_port,
        cpus=cpus,
        accounts=not open_mlflow,
        say=typer.echo,
    )
    _sync_abandoned(running)


@verbs.command(rich_help_panel=PANEL)
def down() -> None:
    """End what `up` started. Runs, models and datasets stay.

    Example: `advseg down`
    """
    from ...platform.services import services

    services.down(find_home(), say=typer.echo)


@verbs.command(rich_help_panel=PANEL)
def status(as_json: AsJson = False) -> None:
    """Say what runs and where: services and jobs.

    Example: `advseg status --json`
    """
    from ...platform.pages.jobs_page import jobs_of, print_jobs
    from ...platform.pages.state_page import print_services, services_json
    from ...platform.services.connection import ServicesDownError, named_elsewhere
    from ...platform.services.state import status as services_status

    home = find_home()
    services, jobs = services_status(home), None
    if not as_json:
        print_services(home, services, named_elsewhere())
    try:
        with cluster() as (running, client):
            jobs = jobs_of(client)
            if running.tracking_uri and not as_json:
                typer.echo(f"open MLflow in a browser by {running.mlflow_page}")
    except ServicesDownError as error:
        typer.echo(error, err=as_json)
    if as_json:
        from ...platform.pages.json_line import json_line

        typer.echo(json_line(services_json(home, services, jobs)))
    elif jobs is not None:
        print_jobs(jobs)


@verbs.command(rich_help_panel=PANEL)
def sync(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="SWEEP...", help="Names of sweeps; all by default.")
    ] = None,
    storage: Storage = None,
    ledger: Ledger = None,
) -> None:
    """Bring to MLflow what killed processes left on this disk, and end the runs that nobody works on any more.

    Example: `advseg sync shapes-demo`
    """
    from ...platform.services.connection import ServicesDownError
    from ...platform.sweep.sync import sync as sync_runs
    from ...platform.tracking.clients import Clients

    with ExitStack() as stack:
        try:
            current = stack.enter_context(mlflow())
        except ServicesDownError:
            # The runs may be on another server.
            current = None
        sync_runs(Clients(current), store_at(storage), ledger, names or [], typer.echo)


def _sync_abandoned(running: "Services") -> None:
    """End the runs of sweeps whose drivers were killed, perhaps with the machine."""
    from ...platform.spec.ledger_address import ledger_file

    store = store_at(None)
    if not ledger_file(store.folder).exists():
        return
    from ...platform.ledger.reading import abandoned_sweeps

    if abandoned := abandoned_sweeps(store.folder):
        from ...platform.sweep.sync import sync_sweeps
        from ...platform.tracking.clients import Clients

        with mlflow(running) as client:
            for problem in sync_sweeps(Clients(client), store, abandoned, None, typer.echo):
                typer.echo(f"not synced: {problem}", err=True)
