"""The command line. Verbs are thin; what is slow to import is imported by the verb that needs it."""

import logging
import os
import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...platform.base.exits import exit_status
from ...platform.base.home import find_home

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from ray.job_submission import JobSubmissionClient

    from ...platform.services.connection import Services
    from ...platform.spec.spec import Spec

app = typer.Typer(
    help="Adversarial semi-supervised semantic segmentation: sweeps on Ray, runs in MLflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Datasets.", no_args_is_help=True)
models = typer.Typer(help="Registered models.", no_args_is_help=True)
sweep = typer.Typer(help="Sweeps.", no_args_is_help=True)
app.add_typer(data, name="data")
app.add_typer(models, name="models")
app.add_typer(sweep, name="sweep")

SpecPath = Annotated[Path, typer.Argument(help="The job spec, a YAML file.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec.")]
Profile = Annotated[
    bool, typer.Option("--profile", help="Trace a few steps; trace.json.gz and phases.txt are kept with the run.")
]
Storage = Annotated[Path | None, typer.Option(help="The spec's storage, if it names one.")]
LedgerUrl = Annotated[str | None, typer.Option(metavar="URL", help="The spec's ledger, if it names one.")]
Follow = Annotated[bool, typer.Option("--follow", help="Show a live table until the job ends.")]
JobId = Annotated[str, typer.Argument(help="The job's id, as `submit` printed it.")]


@app.command()
def up(
    mlflow_port: Annotated[int | None, typer.Option(help="Port of the MLflow server.")] = None,
    dashboard_port: Annotated[int | None, typer.Option(help="Port of the Ray dashboard.")] = None,
    cpus: Annotated[int | None, typer.Option(help="CPUs that Ray may hand out; all by default.")] = None,
) -> None:
    """Start an MLflow server and a Ray head on this machine."""
    from ...platform.services import services

    home = find_home()
    running = services.up(home, mlflow_port=mlflow_port, dashboard_port=dashboard_port, cpus=cpus, say=typer.echo)
    _sync_abandoned(running.tracking_uri, home / "runs")


@app.command()
def down() -> None:
    """End what `up` started. Runs, models and datasets stay."""
    from ...platform.services import services

    services.down(find_home(), say=typer.echo)


@app.command()
def sync(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SWEEP]...", help="All sweeps by default.")] = None,
    storage: Storage = None,
    ledger: LedgerUrl = None,
) -> None:
    """Bring to MLflow what killed processes left on this disk, and end the runs that nobody works on any more."""
    from ...platform.services.connection import connect
    from ...platform.sweep.sync import sync as sync_runs

    home = find_home()
    with _mlflow(connect(home).tracking_uri) as client:
        sync_runs(client, storage or home / "runs", _checked(ledger), names or [], typer.echo)


@app.command()
def status() -> None:
    """Say what runs and where: services and jobs."""
    from ...platform.pages.state_page import print_jobs, print_services
    from ...platform.services.connection import ServicesDownError
    from ...platform.services.state import status as services_status

    home = find_home()
    print_services(home, services_status(home))
    try:
        _, client = _cluster()
    except ServicesDownError as error:
        typer.echo(error)
    else:
        print_jobs(client.list_jobs())


@app.command()
def train(
    spec: SpecPath,
    set_: Overrides = None,
    to: Annotated[Path | None, typer.Option(help="Folder of the run; by default .advseg/runs/<name>/local.")] = None,
    profile: Profile = False,
) -> None:
    """Train once in this process, without Ray. The same command again resumes."""
    where = [f"--to={to}"] if to else []
    _run_job("train", [str(spec), *where, *(f"--set={override}" for override in _overrides(set_, profile))])


@app.command()
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
    """Submit a job to the Ray cluster. The same job again is the same job, or goes on where it stopped."""
    from ...platform.spec.spec_file import load_spec

    forked = [] if fork is None else [f"sweep.fork={fork}"]
    _submit(load_spec(spec, [*_overrides(set_, profile), *forked]), follow)


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="The sweep's name.")],
    follow: Follow = False,
    storage: Storage = None,
    ledger: LedgerUrl = None,
) -> None:
    """Go on with a sweep by the spec in its ledger: unfinished trials first, then new ones."""
    from ...platform.ledger.reading import read_spec

    _submit(read_spec(storage or find_home() / "runs", name, _checked(ledger)), follow)


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(help="A table of the paper: voc, cityscapes, voc-only, ablation, ...")],
    rows: Annotated[list[str] | None, typer.Argument(help="Rows of it, as in voc-1-8/semi; all by default.")] = None,
    on: Annotated[str, typer.Option(help="paper: its own data. shapes: the table in small, on a CPU.")] = "paper",
    seeds: Annotated[int | None, typer.Option(help="Seeds a row; 1 by default, 3 on shapes.")] = None,
    processes: Annotated[int, typer.Option(help="Trainings at a time.")] = 1,
    set_: Overrides = None,
) -> None:
    """Train the rows of a table of the paper and print our figures beside the published ones."""
    seeded = [] if seeds is None else [f"--seeds={seeds}"]
    options = [f"--on={on}", f"--processes={processes}", *seeded, *(f"--set={override}" for override in set_ or [])]
    _run_job("reproduce", [*options, "--", table, *(rows or [])])


@app.command()
def follow(id: JobId) -> None:
    """Show a live table of a job until it ends. Ctrl-C detaches; the job goes on."""
    _, client = _cluster()
    _follow(client, id)


@app.command()
def stop(id: JobId) -> None:
    """Stop a job. Submitting its spec again goes on with it."""
    _, client = _cluster()
    from ...platform.cluster.submit import stop_job

    stop_job(client, id)
    typer.echo(f"job {id} is stopped")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model folder, as `models pull` writes it.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    to: Annotated[Path, typer.Option(help="Folder for the masks.")],
) -> None:
    """Write a palette PNG of class ids for every image."""
    _run_job("predict", [str(model), *map(str, images), "--to", str(to)])


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder, as `models pull` writes it.")],
    spec: SpecPath,
    set_: Overrides = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder of results; by default .advseg/evaluations/<name>/<model's folder>.")
    ] = None,
) -> None:
    """Judge a model by the validation images of a spec's dataset: mean IoU, each class's, a confusion matrix."""
    where = [f"--to={to}"] if to else []
    _run_job("evaluate", [str(model), str(spec), *where, *(f"--set={override}" for override in set_ or [])])


@app.command()
def picture(
    out: Annotated[Path, typer.Argument(help="The PNG to write.")],
    images: Annotated[list[Path], typer.Option(help="An image, or a folder of images.")],
    truth: Annotated[Path, typer.Option(help="Folder of masks named as the images are.")],
    model: Annotated[list[str], typer.Option(metavar="NAME=DIR", help="A model folder and its title.")],
) -> None:
    """Draw images, truth, predictions of several models and a discriminator's confidence side by side."""
    arguments = [str(out), "--truth", str(truth), *(f"--images={path}" for path in images)]
    _run_job("picture", arguments + [f"--model={named}" for named in model])


@data.command()
def shapes(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    labelled: Annotated[int, typer.Option(help="Training images with masks.")] = 50,
    unlabelled: Annotated[int, typer.Option(help="Training images whose masks are not trained on.")] = 750,
    val: Annotated[int, typer.Option(help="Validation images.")] = 200,
    test: Annotated[int, typer.Option(help="Test images.")] = 6,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 48,
    seed: Annotated[int, typer.Option(help="Another seed, other scenes.")] = 0,
) -> None:
    """Write the synthetic dataset `shapes` in the PASCAL VOC layout."""
    from ...trainers.data.shapes import ShapesSettings, write_shapes
    from ...trainers.errors import UserError

    try:
        settings = ShapesSettings(labelled=labelled, unlabelled=unlabelled, val=val, test=test, size=size, seed=seed)
    except ValueError as error:
        raise UserError(f"--{error}") from None
    written = write_shapes(folder, settings)
    count = labelled + unlabelled + val + test
    typer.echo(f"{count} images of {size} x {size} {'written to' if written else 'lie already in'} {folder}")


@data.command()
def check(
    spec: SpecPath,
    set_: Overrides = None,
    picture: Annotated[
        Path | None, typer.Option(help="The PNG to write; by default .advseg/checks/<name>.png.", metavar="FILE")
    ] = None,
) -> None:
    """Read every file of a spec's dataset, list all that is wrong, count pixels by class, and draw samples."""
    where = [f"--picture={picture}"] if picture else []
    _run_job("check_data", [str(spec), *where, *(f"--set={override}" for override in set_ or [])])


@data.command()
def pack(
    spec: SpecPath,
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    set_: Overrides = None,
) -> None:
    """Decode a spec's dataset once, as in `advseg data pack voc.yaml packs/voc`; `dataset.pack` reads it from there."""
    _run_job("pack_data", [str(spec), str(folder), *(f"--set={override}" for override in set_ or [])])


@data.command()
def init(
    folder: Annotated[Path, typer.Argument(help="A folder with images/ and, of the same names, PNGs in masks/.")],
    seed: Annotated[int, typer.Option(help="Another seed, other validation images.")] = 0,
) -> None:
    """Write a first spec for your own images, with class names and lists. What is there already is kept."""
    _run_job("init_data", [str(folder), f"--seed={seed}"])


@models.command()
def pull(
    reference: Annotated[str, typer.Argument(help="<name>@<alias or version>, or <sweep>/<trial>.")],
    to: Annotated[Path, typer.Option(help="Folder to write.")],
) -> None:
    """Download a model: safetensors and JSON, checked against its manifest."""
    from ...platform.registry.registry import pull as pull_model
    from ...platform.services.connection import connect

    with _mlflow(connect(find_home()).tracking_uri) as client:
        typer.echo(f"{pull_model(client, reference, to)} pulled to {to}")


@sweep.command()
def show(
    name: Annotated[str, typer.Argument(help="The sweep's name.")],
    storage: Storage = None,
    ledger: LedgerUrl = None,
    all_: Annotated[bool, typer.Option("--all", help="Print all trials, not only the best.")] = False,
) -> None:
    """List the trials of a sweep, best first, beside its baseline, and say which parameters decide."""
    from ...platform.pages.sweep_page import print_sweep

    print_sweep(storage or find_home() / "runs", name, _checked(ledger), whole=all_)


@sweep.command()
def report(
    name: Annotated[str, typer.Argument(help="The sweep's name.")],
    to: Annotated[Path | None, typer.Option(help="The file to write; <name>.html by default.", metavar="FILE")] = None,
    storage: Storage = None,
    ledger: LedgerUrl = None,
) -> None:
    """Write one HTML file of a sweep: trials, plots, pictures, cost. It needs no network and nothing beside itself."""
    from ...platform.pages.sweep_report import write_report

    path = to or Path(f"{name}.html")
    write_report(storage or find_home() / "runs", name, _checked(ledger), path)
    typer.echo(f"report of sweep {name} written to {path}")


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="<sweep>/<number>, <sweep>/baseline, an MLflow run id, a sweep."),
    ],
    metric: Annotated[str, typer.Option(help="What the runs are compared by, step by step.")] = "val/miou",
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with a plot, too.")] = None,
) -> None:
    """Compare runs: parameters that differ, metrics side by side, and how far each is above the first, pair by pair.

    As in `advseg compare shapes-demo/5 shapes-demo/baseline`. A sweep alone stands for its baseline and its best
    complete trials; beside other runs it stands for its best complete trial.
    """
    from ...platform.pages.compare_page import print_comparison, write_comparison
    from ...platform.pages.compared_runs import find_compared
    from ...platform.pages.comparison import compare as compare_runs
    from ...platform.pages.comparison import comparison_url
    from ...platform.services.connection import connect

    with _mlflow(connect(find_home()).tracking_uri) as client:
        comparison = compare_runs(find_compared(client, runs, metric, typer.echo), metric)
    url = comparison_url(client.tracking_uri, comparison.runs)
    print_comparison(comparison, url)
    if html:
        write_comparison(comparison, url, html)
        typer.echo(f"page written to {html}")


@app.command()
def sweeps(storage: Storage = None, ledger: LedgerUrl = None) -> None:
    """List the sweeps of a ledger: how far they are and the best mIoU of each."""
    from ...platform.pages.sweeps_page import print_sweeps

    print_sweeps(storage or find_home() / "runs", _checked(ledger))


def _sync_abandoned(tracking_uri: str, storage: Path) -> None:
    """End the runs of sweeps whose drivers were killed, perhaps with the machine."""
    from ...platform.spec.ledger_address import ledger_file

    if not ledger_file(storage).exists():
        return
    from ...platform.ledger.reading import abandoned_sweeps

    if abandoned := abandoned_sweeps(storage):
        from ...platform.sweep.sync import sync_sweeps

        with _mlflow(tracking_uri) as client:
            sync_sweeps(client, storage, abandoned, None, typer.echo)


def _checked(ledger: str | None) -> str | None:
    """The value of `--ledger`. Raises UserError if it is no address of a ledger."""
    from ...platform.spec.ledger_address import check_address
    from ...trainers.errors import UserError

    try:
        return None if ledger is None else check_address(ledger)
    except ValueError as error:
        raise UserError(f"--ledger {error}") from None


def _overrides(set_: list[str] | None, profile: bool) -> list[str]:
    """The keys of the spec that options set."""
    return [*(set_ or []), *(["profile=true"] if profile else [])]


def _cluster() -> "tuple[Services, JobSubmissionClient]":
    """The services and a client of the Ray cluster's Jobs API."""
    from ...platform.services.connection import connect

    running = connect(find_home())
    # Ray reads how to authenticate when it is first imported.
    os.environ.update(running.environment())
    from ...platform.cluster.submit import connect_jobs

    # Ray's clients tell of every upload and every closed stream.
    logging.disable(logging.INFO)
    return running, connect_jobs(running)


@contextmanager
def _mlflow(tracking_uri: str) -> "Iterator[MlflowClient]":
    """A client that prints nothing of its own. Raises UserError if the server does not answer."""
    os.environ |= {
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    # A user at a terminal does not wait for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    from ...platform.tracking.patience import is_away
    from ...trainers.errors import UserError

    try:
        yield MlflowClient(tracking_uri)
    except MlflowException as error:
        if not is_away(error):
            raise
        reason = " ".join(str(error).split())
        raise UserError(f"the MLflow server at {tracking_uri} does not answer ({reason})") from None


def _submit(spec: "Spec", follow: bool) -> None:
    services, client = _cluster()
    from ...platform.cluster.submit import submit as submit_job

    job = submit_job(client, spec, services, find_home())
    typer.echo(f"job {job.id} {'submitted' if job.is_new else 'runs already'}")
    if follow:
        _follow(client, job.id)
    else:
        typer.echo(f"follow it by `advseg follow {job.id}`")


def _follow(client: "JobSubmissionClient", id: str) -> None:
    from ray.job_submission import JobStatus
    from rich.console import Console

    from ...platform.pages.follow import follow as follow_job

    try:
        status = follow_job(client, id, Console())
    except KeyboardInterrupt:
        typer.echo(f"\ndetached; job {id} goes on: `advseg follow {id}` shows it, `advseg stop {id}` stops it")
        return
    typer.echo(f"job {id} ended: {status.value}")
    if status != JobStatus.SUCCEEDED:
        raise typer.Exit(1)


def _run_job(name: str, arguments: list[str]) -> None:
    """Run a job of this project by its name, in this process, as a cluster would."""
    sys.argv[1:] = arguments
    runpy.run_module(f"advseg.jobs.{name}", run_name="__main__")


def main() -> None:
    """The program `advseg`."""
    sys.exit(exit_status(lambda: app(prog_name="advseg")))


if __name__ == "__main__":
    main()
