"""Arguments and options that several verbs take."""

import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...models.reference import reference_of
from ...platform.base.home import find_home

if TYPE_CHECKING:
    from ...platform.storage.store import Store


def _which_ledger(address: str | None) -> str | None:
    """The ledger that is meant. Raises UserError for what is no address of one."""
    from ...platform.spec.ledger_address import check_address, ledger_of
    from ...trainers.errors import UserError

    try:
        return ledger_of(None if address is None else check_address(address))
    except ValueError as error:
        raise UserError(f"--ledger {error}") from None


def check_path(value: Path | list[Path] | None) -> Path | list[Path] | None:
    """Raises UserError for an address: a folder of its name would be made, or looked for, here."""
    from ...platform.base.addresses import is_address, shown
    from ...trainers.errors import UserError

    for path in value if isinstance(value, list) else [value]:
        if path is not None and is_address(str(path)):
            # A path keeps one of two slashes.
            address = shown(str(path).replace(":/", "://", 1))
            raise UserError(f"{address} is an address: name a path here, where it is mounted or copied to")
    return value


def check_place(place: str | None) -> str | None:
    """A folder, or an address in S3. Raises UserError for what is neither."""
    from ...platform.base.keys import S3
    from ...platform.base.s3_address import s3_address
    from ...trainers.errors import UserError

    if place is not None and place.startswith(S3):
        try:
            return str(s3_address(place))
        except ValueError as error:
            raise UserError(str(error)) from None
    elif place is not None:
        check_path(Path(place))
    return place


def check_places(places: list[str]) -> list[str]:
    """Raises UserError for what is neither a path nor a place in S3, a pattern of either included."""
    for place in places:
        check_place(place)
    return places


def _check_storage(storage: str | None) -> str | None:
    from ...trainers.errors import UserError

    try:
        return check_place(storage)
    except UserError as error:
        raise UserError(f"--storage {error}") from None


_SECONDS = {"d": 86400, "h": 3600}


SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", callback=check_path, help="The job spec, a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec, as in trainer.steps=500. Repeatable."),
]
Profile = Annotated[
    bool, typer.Option("--profile", help="Trace a few steps; trace.json.gz and phases.txt are kept with the run.")
]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", help="Where to compute, as cpu or cuda:1; by default a GPU, if any.")
]
Storage = Annotated[
    str | None,
    typer.Option(
        "--storage",
        metavar="PLACE",
        callback=_check_storage,
        help="The spec's storage, a folder or s3://bucket/prefix.",
    ),
]
Ledger = Annotated[
    str | None,
    typer.Option(
        "--ledger", metavar="URL", callback=_which_ledger, help="The spec's ledger, if it names one; or ADVSEG_LEDGER."
    ),
]
Follow = Annotated[bool, typer.Option("--follow", help="Show a live table until the job ends.")]
JobName = Annotated[
    str, typer.Argument(metavar="NAME", help="A job's id, or the name of a job or sweep, whose newest job is meant.")
]
SweepName = Annotated[str, typer.Argument(metavar="NAME", help="The sweep's name.")]
Reference = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", callback=reference_of, help="NAME@ALIAS, NAME@VERSION or SWEEP/TRIAL, as in shapes@champion."
    ),
]
ModelOrReference = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", callback=reference_of, help="A model's folder, or a registered model, as in shapes@champion."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object; mean IoU is in percent.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print a JSON object a line; mean IoU is in percent.")]


def moment_before(age: str | None) -> float:
    """What is older than an age, such as `30d` or `12h`, was there before that moment, in seconds since 1970.

    None is any age. Raises UserError for a text that is none.
    """
    from ...trainers.errors import UserError

    if age is None:
        return math.inf
    found = re.fullmatch(r"([0-9]{1,6})([dh])", age)
    if not found:
        raise UserError(f"--older-than must be a number of days or hours, as in 30d or 12h, but is {age!r}")
    return time.time() - int(found[1]) * _SECONDS[found[2]]


def overrides(set_: list[str] | None, profile: bool = False) -> list[str]:
    """The keys of the spec that options set."""
    return [*(set_ or []), *(["profile=true"] if profile else [])]


def store_of(sweep: str, storage: str | None, ledger: str | None) -> "Store":
    """Where a sweep's files lie: where an option says, or its ledger, or by default."""
    from ...platform.ledger.reading import read_location

    location = None if storage else read_location(sweep, ledger)
    return store_at(location.storage if location else storage)


def store_at(storage: str | None) -> "Store":
    """Where checkpoints lie, and a ledger without an address. Whoever sits before it waits for no storage."""
    from ...platform.storage.opening import open_store
    from ...platform.storage.s3_client import AT_ONCE

    return open_store(storage or find_home() / "runs", AT_ONCE)
