"""Trainings: here, on the cluster, and of the paper's tables."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ...platform.base.home import find_home
from .following import submit_job
from .options import AsJsonLines, Follow, Overrides, Profile, SpecPath, check_path, overrides

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
    profile: Profile = False,
) -> None:
    """Train once in this process, without Ray. The same command again resumes.

    Example: `advseg train leaves/advseg.yaml --set trainer.steps=10000`
    """
    from ...platform.spec.spec_file import load_spec
    from ..train import train_and_tell

    train_and_tell(load_spec(spec, overrides(set_, profile)), to)


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

    changed = [*overrides(set_, profile), *([] if fork is None else [f"sweep.fork={fork}"])]
    # A cluster of somebody else's has disks of its own; where none is known yet, that is told next.
    files_elsewhere = bool(os.environ.get("RAY_ADDRESS")) or not connect(find_home(), ()).dashboard_url
    submit_job(load_spec(spec, changed, files_elsewhere=files_elsewhere), follow)


@verbs.command(rich_help_panel=PANEL)
def reproduce(
    table: Annotated[str, typer.Argument(help="A table of the paper: voc, cityscapes, voc-only, ablation, ...")],
    rows: Annotated[
        list[str] | None, typer.Argument(metavar="ROW...", help="Rows of it, as voc-1-8/semi; all by default.")
    ] = None,
    on: Annotated[On, typer.Option(help="paper: its own data. shapes: the table in small, on a CPU.")] = On.PAPER,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", help="Seeds a row; 1 by default, 3 on shapes.", show_default=False)
    ] = None,
    processes: Annotated[int, typer.Option(metavar="N", help="Trainings at a time.")] = 1,
    set_: Overrides = None,
    as_json: AsJsonLines = False,
) -> None:
    """Train the rows of a table of the paper and print our figures beside the published ones.

    Example: `advseg reproduce ablation --on shapes`
    """
    from ...platform.pages.console import VisibleConsole
    from .. import reproduce as job

    said = VisibleConsole(stderr=as_json, highlight=False)
    reproduced = job.reproduce(
        table, rows or [], on=on.value, seeds=seeds, processes=processes, overrides=overrides(set_), console=said
    )
    if as_json:
        from ...platform.pages.json_line import json_line

        for line in reproduced.lines:
            typer.echo(json_line(job.line_json(line)))
    else:
        said.print(job.page(reproduced))
