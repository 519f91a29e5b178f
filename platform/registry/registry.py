"""The model registry: a version is a directory of data, logged as artifacts of its run."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ...models.bundle import CARD, Card, read_card
from ...models.manifest import MANIFEST, BrokenDirectoryError, verify_directory
from ...trainers.errors import UserError
from ..tracking.runs import KEY_TAG

CHAMPION = "champion"
MODEL = "model"
"""Artifact folder of a run's model."""
_REFERENCE = re.compile(r"[^@/']+[@/][^@/']+")
_NAME = re.compile(r"[\w-]+")


def register(client: MlflowClient, model: Path, name: str, run_id: str, key: str) -> str:
    """Make the model directory of a run a version of a registered model, and its champion; return the version.

    A trial is registered once: if a version has its key, that one is returned.
    """
    verify_directory(model)
    try:
        client.get_registered_model(name)
    except MlflowException:
        client.create_registered_model(name)
    versions = client.search_model_versions(f"name = '{name}'")
    version = next((v.version for v in versions if v.tags.get(KEY_TAG) == key), None)
    if version is None:
        source = log_model(client, model, run_id)
        version = client.create_model_version(name, source, run_id=run_id, tags={KEY_TAG: key}).version
    client.set_registered_model_alias(name, CHAMPION, str(version))
    return str(version)


def log_model(client: MlflowClient, model: Path, run_id: str) -> str:
    """Log a model directory as artifacts of its run; return their URI."""
    client.log_artifacts(run_id, str(model), MODEL)
    return f"{client.get_run(run_id).info.artifact_uri}/{MODEL}"


def pull(client: MlflowClient, reference: str, destination: Path) -> str:
    """Download the model of `<name>@<alias or version>` or of the run of `<sweep>/<trial>`; return what it is.

    Raises UserError for a reference that leads nowhere, a destination that exists and a damaged download;
    the destination is then left as it was.
    """
    if destination.exists():
        raise UserError(f"{destination} exists already: remove it or name another folder with --to")
    partial = destination.with_name(f".{destination.name}.partial")
    try:
        source, description = _source(client, reference)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        folder = Path(download_artifacts(source, dst_path=str(partial), tracking_uri=client.tracking_uri))
        verify_directory(folder)
        folder.rename(destination)
    except (MlflowException, BrokenDirectoryError, OSError) as error:
        raise UserError(f"{reference} cannot be pulled: {' '.join(str(error).split())}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return description


@contextmanager
def pulled(client: MlflowClient, reference: str) -> Iterator[Path]:
    """The folder of a model while it is needed. Raises UserError as `pull` does."""
    with TemporaryDirectory(prefix="advseg-") as folder:
        model = Path(folder) / "model"
        pull(client, reference, model)
        yield model


def pull_card(client: MlflowClient, reference: str) -> tuple[str, Card]:
    """What the model of a reference is, and its card, without its weights. Raises UserError as `pull` does."""
    try:
        source, description = _source(client, reference)
        with TemporaryDirectory(prefix="advseg-") as folder:
            for file in (MANIFEST, CARD):
                download_artifacts(f"{source}/{file}", dst_path=folder, tracking_uri=client.tracking_uri)
            return description, read_card(Path(folder), alone=True)
    except (MlflowException, ValueError, OSError) as error:
        raise UserError(f"the card of {reference} cannot be read: {' '.join(str(error).split())}") from None


def _source(client: MlflowClient, reference: str) -> tuple[str, str]:
    """Where the model of a reference lies, and what it is. Raises UserError for one that leads nowhere."""
    if not _REFERENCE.fullmatch(reference):
        name = reference if _NAME.fullmatch(reference) else "shapes"
        raise UserError(
            f"model {reference!r} must be <name>@<alias>, <name>@<version> or <sweep>/<trial>, as in "
            f"{name}@{CHAMPION}: `advseg models list` lists the names"
        )
    name, at, version = reference.partition("@")
    if at:
        return _version_source(client, name, version)
    return _run_source(client, reference), f"the model of {reference}"


def _version_source(client: MlflowClient, name: str, version: str) -> tuple[str, str]:
    try:
        found = (
            client.get_model_version(name, version)
            if version.isdigit()
            else client.get_model_version_by_alias(name, version)
        )
    except MlflowException:
        known = ", ".join(f"{m.name} ({', '.join(m.aliases)})" for m in client.search_registered_models())
        raise UserError(f"there is no model {name}@{version}; registered models: {known or 'none yet'}") from None
    assert found.source
    return found.source, f"{name} version {found.version}"


def _run_source(client: MlflowClient, key: str) -> str:
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`{KEY_TAG}` = '{key}'")
    if not runs:
        raise UserError(f"there is no run {key}; `advseg sweep show` lists the trials of a sweep")
    if not client.list_artifacts(runs[0].info.run_id, MODEL):
        raise UserError(f"run {key} has no model: only a sweep's baseline and best trial keep theirs")
    return f"{runs[0].info.artifact_uri}/{MODEL}"
