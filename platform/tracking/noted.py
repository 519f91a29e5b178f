"""Where a run is, noted beside the files of its training or sweep, for whoever brings what is missing later."""

import json
from dataclasses import asdict, dataclass

from ...trainers.errors import BrokenEnvironmentError
from ..storage.store import Store
from .identity import RunIdentity

FILE = "tracking.json"


@dataclass(frozen=True, kw_only=True)
class Noted:
    """Where a run is, or is to be once MLflow answers."""

    tracking_uri: str
    identity: RunIdentity
    run_id: str | None = None


def note(store: Store, tracking_uri: str, identity: RunIdentity, run_id: str | None) -> None:
    """Write it down in the store of a training or sweep; a run stays known while its server does not answer."""
    before = read_noted(store)
    if run_id is None and before is not None and before.tracking_uri == tracking_uri:
        run_id = before.run_id
    noted = Noted(tracking_uri=tracking_uri, identity=identity, run_id=run_id)
    if noted != before:
        store.write(FILE, json.dumps(asdict(noted)).encode())


def read_noted(store: Store) -> Noted | None:
    """What is noted in the store of a training or sweep; None if nothing is that can be read."""
    try:
        said = json.loads(store.read(FILE))
        return Noted(**{**said, "identity": RunIdentity(**said["identity"])})
    except (OSError, BrokenEnvironmentError, ValueError, TypeError, LookupError):
        return None
