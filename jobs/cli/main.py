"""The command line. Verbs are thin; what is slow to import is imported by the verb that needs it."""

import os
import sys
from typing import Annotated

import typer

from ...platform.base.exits import exit_status
from ...platform.base.output import guard_output
from . import data, job, models, services, sweep, train, using

app = typer.Typer(
    name="advseg",
    epilog="Exit status: 0 done, 1 the job failed, 2 a mistake in what was asked, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(services.verbs)
app.add_typer(data.data, name="data", rich_help_panel=data.PANEL, no_args_is_help=True)
app.add_typer(train.verbs)
app.add_typer(job.job, name="job", rich_help_panel=train.PANEL, no_args_is_help=True)
app.add_typer(sweep.sweep, name="sweep", rich_help_panel=sweep.PANEL, no_args_is_help=True)
app.add_typer(sweep.verbs)
app.add_typer(models.models, name="models", rich_help_panel=models.PANEL, no_args_is_help=True)
app.add_typer(using.verbs)

_INTERRUPTED = 130
"""What Typer makes of KeyboardInterrupt."""


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"advseg {version('advseg')}")
        raise typer.Exit()


@app.callback()
def advseg(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Adversarial semi-supervised semantic segmentation: sweeps on Ray, runs in MLflow."""


def run() -> None:
    """The command that was typed.

    Raises UserError for a line that is none, SystemExit for a job that failed, and KeyboardInterrupt.
    """
    try:
        status = app(prog_name="advseg", standalone_mode=False)
    except typer.TyperException as error:
        from ...trainers.errors import UserError

        if not error.format_message():
            sys.exit(2)  # Help was printed instead.
        raise UserError(f"{_reason(error)}: --help says what the command takes") from None
    if status == _INTERRUPTED:
        raise KeyboardInterrupt
    sys.exit(status)


def _reason(error: typer.TyperException) -> str:
    """What is wrong with a command line, in one line, with the value that Typer leaves out."""
    from pydantic import ValidationError

    reason = " ".join(error.format_message().replace("Value error, ", "").split()).rstrip(".")
    if isinstance(error.__cause__, ValidationError):
        value = repr(error.__cause__.errors()[0]["input"])
        return reason if value in reason else f"{reason}, but is {value}"
    return reason


def main() -> None:
    """The program `advseg`."""
    # Of PyTorch's threads: by default they burn their cores while they wait, and on a machine with other work, a step
    # takes several times as long for it. GNU's OpenMP reads it once.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    guard_output()
    sys.exit(exit_status(run))


if __name__ == "__main__":
    main()
