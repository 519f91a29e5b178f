"""Files of a training's directory that are kept with its MLflow run."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlflow.tracking import MlflowClient

from ...trainers.whole_file import write_whole

SENT = "artifacts.json"
"""Beside them: size and time of change of each file that was sent."""


def send_artifacts(client: MlflowClient, run_id: str, directory: Path, names: Sequence[str]) -> None:
    """Upload the files and folders of these names that exist, but for what was sent and has not changed since."""
    mark = directory / SENT
    sent: dict[str, list[int]] = json.loads(mark.read_text()) if mark.exists() else {}
    for path in files_of(directory, names):
        place, state = path.relative_to(directory), path.stat()
        version = [state.st_size, state.st_mtime_ns]
        if sent.get(place.as_posix()) != version:
            client.log_artifact(run_id, str(path), None if place.parent == Path() else place.parent.as_posix())
            sent[place.as_posix()] = version
            write_whole(mark, json.dumps(sent))


def files_of(directory: Path, names: Sequence[str]) -> Iterator[Path]:
    """The files of these names that exist, and those in folders of these names."""
    for path in (directory / name for name in names):
        if path.is_dir():
            yield from sorted(child for child in path.iterdir() if child.is_file())
        elif path.exists():
            yield path
