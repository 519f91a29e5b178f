"""Trainings: here, on the cluster, and of the paper's tables."""

import os
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ...models.reference import reference_of
from ...platform.base.home import find_home
from ...trainers.errors import UserError
from .connections import mlflow
from .following import submit_job
from .options import AsJsonLines, Device, Follow, Overrides, Profile, SpecPath, check_path, overrides

PANEL = "Train"
verbs = typer.Typer()


class On(StrEnum):
    """What a table of the paper is trained on."""

    PAPER = "paper"
    SHAPES = "shapes"


@verbs.command(rich_help_panel=PANEL)
def train(
    spec: SpecPath,
    set_: Overrides = None,
    to: Annotated[
        Path | None,
        typer.Option(
            callback=check_path, metavar="DIR", help="Folder of the run; by default .advseg/runs/<name>/local."
        ),
    ] = None,
    device: Device = None,
    profile: Profile = False,
) -> None:
    """Train once in this process, without Ray. The same command again resumes; Ctrl-C and SIGTERM save first.

    By `torchrun --standalone --nproc-per-node 4 -m advseg.jobs.cli train SPEC` the GPUs of a machine share its batches.

    Example: `advseg train leaves/advseg.yaml --set trainer.steps=10000`
    """
    from ...platform.pages.progress_bar import progress_shown
    from ...platform.spec.spec_file import load_spec
    from ..torchrun import gathered
    from ..train import train_and_tell

    with gathered(device) as (world, own):
        read = load_spec(spec, overrides(set_, profile))
        with progress_shown() if world.leads else nullcontext():
            train_and_tell(read, to, world=world, device=own)


@verbs.command(rich_help_panel=PANEL)
def submit(
    spec: SpecPath,
    set_: Overrides = None,
    follow: Follow = False,
    fork: Annotated[
        str | None,
        typer.Option(metavar="SWEEP", help="Begin a sweep whose sampler learns from the trials of this one."),
    ] = None,
    profile: Profile = False,
) -> None:
    """Submit a job to the Ray cluster. The same job again is the same job, or goes on where it stopped.

    Example: `advseg submit jobs/specs/demo.yaml --set sweep.trials=40 --follow`
    """
    from ...platform.services.connection import connect
    from ...platform.spec.spec_file import load_spec

    changed = overrides(set_, profile)
    # A cluster of somebody else's has disks of its own; where none is known yet, that is told next.
    files_elsewhere = bool(os.environ.get("RAY_ADDRESS")) or not connect(find_home(), ()).dashboard_url
    job = load_spec(spec, changed, files_elsewhere=files_elsewhere)
    if fork is not None:
        if job.sweep is None:
            raise UserError(f"--fork begins a sweep, but {spec} is a single training (job: train): leave it out")
        job = load_spec(spec, [*changed, f"sweep.fork={fork}"], files_elsewhere=files_elsewhere)
    submit_job(job, follow)


@verbs.command(rich_help_panel=PANEL)
def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A registered model, as models:/shapes@champion, or a table of the paper: voc, cityscapes, voc-only, "
            "ablation, ...",
        ),
    ],
    rows: Annotated[
        list[str] | None, typer.Argument(metavar="ROW...", help="Rows of a table, as voc-1-8/semi; all by default.")
    ] = None,
    on: Annotated[
        On, typer.Option(help="Of a table. paper: its own data. shapes: the table in small, on a CPU.")
    ] = On.PAPER,
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Seeds a row of a table; 1 by default, 3 on shapes.", show_default=False),
    ] = None,
    processes: Annotated[int, typer.Option(metavar="N", help="Trainings of a table at a time.")] = 1,
    to: Annotated[
        Path | None,
        typer.Option(
            callback=check_path,
            metavar="DIR",
            help="Folder for the training of a model; by default .advseg/reproduce/models/<name>-<version>-<digest>.",
        ),
    ] = None,
    any_code: Annotated[
        bool, typer.Option("--any-code", help="Train a model also by other code than it was trained by.")
    ] = False,
    set_: Overrides = None,
    as_json: AsJsonLines = False,
) -> None:
    """Train a registered model again from what the registry knows, and compare to the bit; or a table of the paper.

    Of a model, --set says where data and start weights lie, if that is not where they lay: they must be the same by
    their digests. Of a table our figures are printed beside the published ones. The same command again goes on; Ctrl-C
    and SIGTERM save first.

    Example: `advseg reproduce models:/shapes@champion`
    """
    what = reference_of(what)
    if "@" in what or "/" in what:
        if rows or on is not On.PAPER or seeds is not None or processes != 1:
            raise UserError("rows, --on, --seeds and --processes are of tables: leave them out for a model")
        _reproduce_model(what, overrides(set_), to, any_code, as_json)
        return
    if to is not None or any_code:
        raise UserError("--to and --any-code are of registered models: leave them out for a table")
    from ...platform.pages.console import VisibleConsole
    from ...platform.pages.progress_bar import progress_shown
    from .. import reproduce as job

    said = VisibleConsole(stderr=as_json, highlight=False)
    with progress_shown():
        reproduced = job.reproduce(
            what, rows or [], on=on.value, seeds=seeds, processes=processes, overrides=overrides(set_), console=said
        )
    if as_json:
        from ...platform.pages.json_line import json_line

        for line in reproduced.lines:
            typer.echo(json_line(job.line_json(line)))
    else:
        said.print(job.page(reproduced))


def _reproduce_model(reference: str, set_: list[str], to: Path | None, any_code: bool, as_json: bool) -> None:
    """Train a registered model again, and say how it compares."""
    with mlflow() as client:
        from ...platform.registry.made import how_made
        from .. import reproduce_model as job

        made = how_made(client, reference)
    from ...platform.pages.console import VisibleConsole
    from ...platform.pages.progress_bar import progress_shown
    from ...trainers.reporter import ConsoleReporter
    from ..reproduced import compared_json, page, refuse_differing

    said = VisibleConsole(stderr=as_json, highlight=False)
    reporter = ConsoleReporter(stderr=as_json)
    with progress_shown():
        compared = job.reproduce_model(made, set_, to, any_code=any_code, console=said, reporter=reporter)
    if as_json:
        from ...platform.pages.json_line import json_line

        typer.echo(json_line(compared_json(compared)))
        refuse_differing(compared)
    else:
        said.print(page(compared))
        said.print(refuse_differing(compared), soft_wrap=True)
