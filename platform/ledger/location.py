"""Where a sweep keeps its files and its runs: whoever goes on with it, from whatever home, does so there."""

from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from ...trainers.errors import UserError

LOCATION = "advseg.location"


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a sweep keeps what it makes."""

    storage: str
    """Folder of its checkpoints."""
    tracking_uri: str
    """MLflow server of its runs; empty if none is known."""


def location_of(sweep: str, named: str | None, begun: Location | None, own: Location) -> Location:
    """Where a sweep goes on that the ledger has at `begun`, or begins, of a spec that names a storage or none.

    `own` is where its submitter would begin it. An MLflow that only its own machine can reach binds nobody. Raises
    UserError if the spec names another storage.
    """
    if begun is None:
        return Location(storage=named or own.storage, tracking_uri=own.tracking_uri)
    if named not in (None, begun.storage):
        raise UserError(
            f"sweep {sweep} keeps its files in {begun.storage}, as its ledger has it, but the spec names storage "
            f"{named}: remove that key to go on with it, or choose another name, as in --set name={sweep}-2"
        )
    if own.tracking_uri and _is_of_one_machine(begun.tracking_uri):
        return Location(storage=begun.storage, tracking_uri=own.tracking_uri)
    return begun


def _is_of_one_machine(tracking_uri: str) -> bool:
    host = urlsplit(tracking_uri).hostname
    try:
        return host in (None, "localhost") or ip_address(host).is_loopback
    except ValueError:
        return False
