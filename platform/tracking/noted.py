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
    experiment: str
    key: str
    id: str = ""
    """Of the sweep or training, as `RunIdentity` has it."""
    parent: str | None = None
    """Key of the parent run; a training without a sweep has none."""
    run_id: str | None = None

    @property
    def identity(self) -> RunIdentity:
        """What the run is found by."""
        return RunIdentity(experiment=self.experiment, key=self.key, id=self.id, parent=self.parent)


def note(directory: Path, tracking_uri: str, identity: RunIdentity, run_id: str | None) -> None:
    """Write it down; a run that is not known yet leaves the one that was."""
    noted = Noted(
        tracking_uri=tracking_uri,
        experiment=identity.experiment,
        key=identity.key,
        id=identity.id,
        parent=identity.parent,
        run_id=run_id,
    )
    before = read_noted(directory)
    if before is not None and (before == noted or (run_id is None and before.tracking_uri == tracking_uri)):
        return
    directory.mkdir(parents=True, exist_ok=True)
    write_whole(directory / FILE, json.dumps(asdict(noted)), durable=True)


def read_noted(directory: Path) -> Noted | None:
    """What is noted in a directory; None if nothing is that can be read."""
    try:
        return Noted(**json.loads((directory / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
