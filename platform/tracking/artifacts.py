"""Files of a training's directory that are kept with its MLflow run."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlflow.tracking import MlflowClient

from ...trainers.whole_file import write_whole
from .patience import is_away, reason_of

log = logging.getLogger(__name__)

SENT = "artifacts.json"
"""Beside them: the run that they were sent to, and the SHA-256 of each file that was."""


def send_artifacts(client: MlflowClient, run_id: str, directory: Path, names: Sequence[str]) -> None:
    """Upload the files and folders of these names that exist, but for what was sent and has not changed since.

    A file that is refused, or cannot be read, is told in a warning and left out.
    """
    sent = _read_sent(directory, run_id)
    for path in files_of(directory, names):
        place = path.relative_to(directory)
        try:
            version = hashlib.sha256(path.read_bytes()).hexdigest()
            if sent.get(place.as_posix()) == version:
                continue
            client.log_artifact(run_id, str(path), None if place.parent == Path() else place.parent.as_posix())
        except Exception as error:
            if is_away(error):
                raise
            log.warning("MLflow's run %s goes without %s: %s", run_id, path, reason_of(error))
            continue
        sent[place.as_posix()] = version
        write_whole(directory / SENT, json.dumps({"run_id": run_id, "files": sent}))


def _read_sent(directory: Path, run_id: str) -> dict[str, str]:
    """What a run has got; nothing if that cannot be read, for a file may come twice."""
    try:
        said = json.loads((directory / SENT).read_text())
        return dict(said["files"]) if said["run_id"] == run_id else {}
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return {}


def files_of(directory: Path, names: Sequence[str]) -> Iterator[Path]:
    """The files of these names that exist, and those in folders of these names."""
    for path in (directory / name for name in names):
        if path.is_dir():
            yield from sorted(child for child in path.iterdir() if child.is_file())
        elif path.exists():
            yield path
