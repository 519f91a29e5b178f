"""Sweeps, and runs side by side."""

from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from .connections import cluster, mlflow
from .following import submit_job
from .options import (
    AsJson,
    AsJsonLines,
    Follow,
    Ledger,
    Storage,
    SweepName,
    check_path,
    moment_before,
    store_at,
    store_of,
)

PANEL = "Sweeps"
sweep = typer.Typer(help="List, show, resume and stop sweeps.")
verbs = typer.Typer()


@sweep.command("list")
def list_(storage: Storage = None, ledger: Ledger = None, as_json: AsJsonLines = False) -> None:
    """List the sweeps of a ledger: how far they are and the best mIoU of each.

    Example: `advseg sweep list`
    """
    from ...platform.ledger.reading import read_sweeps
    from ...platform.pages.json_line import json_line
    from ...platform.pages.sweeps_page import listed_sweep_json, print_sweeps

    store = store_at(storage)
    sweeps = read_sweeps(store.folder, ledger)
    if as_json:
        for each in sweeps:
            typer.echo(json_line(listed_sweep_json(each)))
    else:
        print_sweeps(sweeps, store.address, ledger)


@sweep.command()
def show(
    name: SweepName,
    storage: Storage = None,
    ledger: Ledger = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Print all trials, not only the best, with the whole reasons of their ends.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the trials of a sweep, best first, beside its baseline, and say which parameters decide.

    Example: `advseg sweep show shapes-demo --all`
    """
    from ...platform.pages import sweep_page

    place = store_at(storage).folder
    if as_json:
        from ...platform.ledger.reading import read_sweep
        from ...platform.pages.json_line import json_line

        typer.echo(json_line(sweep_page.sweep_json(read_sweep(place, name, ledger))))
    else:
        sweep_page.print_sweep(place, name, ledger, whole=all_)


@sweep.command()
def report(
    name: SweepName,
    to: Annotated[
        Path | None,
        typer.Option(callback=check_path, metavar="FILE", help="The file to write; <name>.html by default."),
    ] = None,
    storage: Storage = None,
    ledger: Ledger = None,
) -> None:
    """Write one HTML file of a sweep: trials, plots, pictures, cost. It needs no network and nothing beside itself.

    Example: `advseg sweep report shapes-demo --to report.html`
    """
    from ...platform.pages.html_page import write_page
    from ...platform.pages.sweep_report import report_of

    path = to or Path(f"{name}.html")
    write_page(path, report_of(store_of(name, storage, ledger), name, ledger))
    typer.echo(f"report of sweep {name} written to {path}")


@sweep.command()
def resume(name: SweepName, follow: Follow = False, storage: Storage = None, ledger: Ledger = None) -> None:
    """Go on with a sweep by the spec in its ledger: unfinished trials first, then new ones.

    Example: `advseg sweep resume shapes-demo --follow`
    """
    _go_on(name, follow, store_at(storage).folder, ledger)


@sweep.command()
def retry(
    name: SweepName,
    trials: Annotated[
        list[int] | None, typer.Argument(metavar="TRIAL...", help="Numbers of failed trials; by default all.")
    ] = None,
    follow: Follow = False,
    storage: Storage = None,
    ledger: Ledger = None,
) -> None:
    """Hand failed trials of a sweep out again, from their own checkpoints, and go on with it. Each counts once still.

    Example: `advseg sweep retry shapes-demo 3 7`
    """
    from ...platform.ledger.opening import reopen_ledger

    place = store_at(storage).folder
    with closing(reopen_ledger(place, name, ledger)) as opened:
        numbers = opened.reopen(trials or [])
    told = f"trials of sweep {name} that are handed out again: {', '.join(map(str, numbers))}"
    typer.echo(told if numbers else f"sweep {name} has no failed trial")
    if numbers:
        _go_on(name, follow, place, ledger)


@verbs.command(rich_help_panel=PANEL)
def confirm(
    name: SweepName,
    candidates: Annotated[int | None, typer.Option(metavar="K", help="Best trials that are trained again.")] = None,
    seeds: Annotated[int | None, typer.Option(metavar="N", help="Seeds on each of which all are trained.")] = None,
    follow: Follow = False,
    storage: Storage = None,
    ledger: Ledger = None,
) -> None:
    """Train the best trials of a sweep on fresh seeds, beside champion and baseline; who is shown better is promoted.

    Unfinished trials of the sweep come first. By default candidates and seeds are those of the spec's sweep.confirm.

    Example: `advseg confirm shapes-demo --candidates 1 --seeds 5`
    """
    from ...platform.ledger.reading import read_spec
    from ...platform.spec.spec import confirmed

    spec = read_spec(store_at(storage).folder, name, ledger).model_copy(update={"ledger": ledger})
    submit_job(confirmed(spec, candidates, seeds), follow)


@verbs.command(rich_help_panel=PANEL)
def clean(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="SWEEP...", help="Names of sweeps; all by default.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="AGE", help="Only of trainings that saved last before that, as in 30d or 12h."
        ),
    ] = None,
    storage: Storage = None,
    ledger: Ledger = None,
    as_json: AsJson = False,
) -> None:
    """Remove the checkpoints of pruned and failed trials, and those that the spec's `keep` does not.

    What a registered version came from stays, and a sweep that somebody runs is left alone. A failed trial that is
    retried afterwards starts over.

    Example: `advseg clean shapes-demo --dry-run`
    """
    from ...platform.services.connection import ServicesDownError
    from ...platform.tracking.clients import Clients
    from ..clean import Cleaner, cleaned_json, print_cleaned, refuse_problems

    before = moment_before(older_than)
    with ExitStack() as stack:
        try:
            current = stack.enter_context(mlflow())
        except ServicesDownError:
            # The models may be on another server.
            current = None
        cleaned = Cleaner(
            clients=Clients(current),
            store=store_at(storage),
            ledger=ledger,
            before=before,
            dry_run=dry_run,
            say=partial(typer.echo, err=as_json),
        ).clean(names or [])
    if as_json:
        from ...platform.pages.json_line import json_line

        typer.echo(json_line(cleaned_json(cleaned)))
    else:
        print_cleaned(cleaned)
    refuse_problems(cleaned)


@sweep.command()
def stop(name: SweepName) -> None:
    """Stop the newest job of a sweep. `sweep resume` goes on with it.

    Example: `advseg sweep stop shapes-demo`
    """
    with cluster() as (_, client):
        from ...platform.cluster.jobs import job_ids, newest_job, stop_job

        id = newest_job(name, job_ids(client))
        stop_job(client, id, typer.echo)


def _go_on(name: str, follow: bool, storage: Path | None, ledger: str | None) -> None:
    """Submit the spec that a ledger has of a sweep, which goes on in that very ledger."""
    from ...platform.ledger.reading import read_spec

    submit_job(read_spec(storage, name, ledger).model_copy(update={"ledger": ledger}), follow)


@verbs.command(rich_help_panel=PANEL)
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="SWEEP/NUMBER, SWEEP/baseline, an MLflow run id, a sweep's name."),
    ],
    metric: Annotated[
        str, typer.Option(metavar="NAME", help="What the runs are compared by, step by step.")
    ] = "val/miou",
    html: Annotated[
        Path | None, typer.Option(callback=check_path, metavar="FILE", help="Write a page with a plot, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: parameters that differ, metrics side by side, and how far each is above the first.

    A sweep alone stands for its baseline and its best complete trials; beside others for its best complete trial.

    Example: `advseg compare shapes-demo/5 shapes-demo/baseline`
    """
    from ...platform.pages.compare_page import comparison_json, print_comparison, write_comparison
    from ...platform.pages.compared_runs import find_compared
    from ...platform.pages.comparison import compare as compare_runs
    from ...platform.pages.comparison import comparison_url

    say = partial(typer.echo, err=as_json)
    with mlflow() as client:
        comparison = compare_runs(find_compared(client, runs, metric, say), metric)
    url = comparison_url(client.tracking_uri, comparison.runs)
    if as_json:
        from ...platform.pages.json_line import json_line

        typer.echo(json_line(comparison_json(comparison, url)))
    else:
        print_comparison(comparison, url)
    if html:
        write_comparison(comparison, url, html)
        say(f"page written to {html}")
