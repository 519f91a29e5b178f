"""Where a run is, noted beside the files of its training or sweep, for whoever brings what is missing later."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ...trainers.whole_file import write_whole
from .identity import RunIdentity

FILE = "tracking.json"


@dataclass(frozen=True, kw_only=True)
class Noted:
    """Where a run is, or is to be once MLflow answers."""

    tracking_uri: str
    identity: RunIdentity
    run_id: str | None = None


def note(directory: Path, tracking_uri: str, identity: RunIdentity, run_id: str | None) -> None:
    """Write it down; one on the same server stays known while that does not answer."""
    before = read_noted(directory)
    if run_id is None and before is not None and before.tracking_uri == tracking_uri:
        run_id = before.run_id
    noted = Noted(tracking_uri=tracking_uri, identity=identity, run_id=run_id)
    if noted != before:
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(directory / FILE, json.dumps(asdict(noted)), durable=True)


def read_noted(directory: Path) -> Noted | None:
    """What is noted in a directory; None if nothing is that can be read."""
    try:
        said = json.loads((directory / FILE).read_text())
        return Noted(**{**said, "identity": RunIdentity(**said["identity"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
