"""The model registry: a version is a directory of data, kept as artifacts of its run."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ...models.bundle import CARD, load, read_card
from ...models.card import Card
from ...models.files import one_line
from ...models.manifest import MANIFEST, read_manifest
from ...models.reference import HISTORY
from ...models.sources import refusal
from ...trainers.errors import UserError
from ..base.keys import BASELINE, MODEL
from ..base.s3_reason import s3_reason
from ..tracking.patience import is_away, reason_of
from ..tracking.runs import KEY_TAG
from .history import read_past, registered_models
from .moves import CANDIDATE, CHAMPION
from .pulling import place_model

_SHOWN = 200
"""Characters of an address."""
_REFERENCE = re.compile(r"[^@/']+[@/][^@/']+")
_NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a model says of itself."""

    description: str
    """What it is, in words."""
    folder: str
    """What a folder of it is called by default."""
    run_id: str | None
    """Of its training; None of a version that another program made of none."""
    card: Card
    sums: Mapping[str, str]
    """The SHA-256 of each of its files."""


def pull(client: MlflowClient, reference: str, destination: Path | None = None) -> tuple[str, Path]:
    """Download the model of `<name>@<alias or version>` or of the run of `<sweep>/<trial>`; what it is, and its folder.

    That is the destination, or by default `<name>-<version>` or `<sweep>-<trial>` here. In it is what the manifest
    lists, checked by it, and nothing beside. Raises UserError for a reference that leads nowhere, a folder that exists
    and a damaged download; the folder is then left as it was.
    """
    found = find_source(client, reference)
    folder = destination or Path(found.folder)
    with telling(f"{reference} cannot be pulled"):
        place_model(folder, partial(fetch, client, found.source))
    return found.description, folder


def fetch(client: MlflowClient, source: str, names: Iterable[str], folder: Path) -> None:
    """Download files of a source to a folder."""
    for name in names:
        place = (folder / name).parent
        download_artifacts(f"{source}/{name}", dst_path=str(place), tracking_uri=client.tracking_uri)


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Raises UserError for what goes wrong with a download."""
    try:
        yield
    except UserError:
        raise
    except (MlflowException, ValueError, OSError) as error:
        raise UserError(f"{what}: {one_line(error)}") from None
    except Exception as error:
        # Of MLflow's own client of S3.
        if (reason := s3_reason(error)) is None:
            raise
        raise UserError(f"{what}: {reason}") from None


@contextmanager
def pulled(client: MlflowClient, reference: str) -> Iterator[Path]:
    """The folder of a model while it is needed. Raises UserError as `pull` does."""
    with TemporaryDirectory(prefix="advseg-") as folder:
        model = Path(folder) / "model"
        pull(client, reference, model)
        yield model


def pull_card(client: MlflowClient, reference: str) -> tuple[str, Card]:
    """What the model of a reference is, and its card, without its weights. Raises UserError as `pull` does."""
    found = find_source(client, reference)
    with telling(f"the card of {reference} cannot be read"), TemporaryDirectory(prefix="advseg-") as name:
        folder = Path(name)
        fetch(client, found.source, (MANIFEST, CARD), folder)
        return found.description, read_card(folder, alone=True)


def pull_record(client: MlflowClient, reference: str) -> Record:
    """What the model of a reference says of itself, once its weights were read, too. Raises UserError as `pull` does.

    It does so as well for a model that lacks a network of its card.
    """
    found = find_source(client, reference)
    with telling(f"{reference} is not whole"), TemporaryDirectory(prefix="advseg-") as name:
        folder = Path(name) / "model"
        place_model(folder, partial(fetch, client, found.source))
        return Record(
            description=found.description,
            folder=found.folder,
            run_id=found.run_id,
            card=load(folder).card,
            sums=read_manifest(folder),
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """The model of a reference."""

    source: str
    """Where it lies."""
    description: str
    folder: str
    """What a folder of it is called by default."""
    run_id: str | None


def find_source(client: MlflowClient, reference: str) -> Found:
    """The model of a reference. Raises UserError for one that leads nowhere."""
    if not _REFERENCE.fullmatch(reference):
        name = reference if _NAME.fullmatch(reference) else "shapes"
        raise UserError(
            f"model {reference!r} must be <name>@<alias>, <name>@<version> or <sweep>/<trial>, as in "
            f"{name}@{CHAMPION}: `advseg models list` lists the names"
        )
    name, at, number = reference.partition("@")
    run = None
    try:
        if at:
            version = find_version(client, name, number)
            found = Found(
                source=version.source or "",
                description=f"{name} version {version.version}",
                folder=f"{name}-{version.version}",
                run_id=version.run_id or None,
            )
        else:
            run = _run_of(client, reference)
            found = Found(
                source=f"{run.info.artifact_uri}/{MODEL}",
                description=f"the model of {reference}",
                folder=reference.replace("/", "-"),
                run_id=run.info.run_id,
            )
    except MlflowException as error:
        if is_away(error):
            raise
        raise UserError(f"{reference} cannot be found: {reason_of(error)}") from None
    if reason := refusal(found.source, client.tracking_uri):
        raise UserError(
            f"{found.description} is said to lie at {found.source[:_SHOWN]!r}, but {reason}: register it again"
        )
    if run:
        with telling(f"{reference} cannot be found"):
            if not client.list_artifacts(run.info.run_id, MODEL):
                raise UserError(
                    f"run {reference} has no model: of a sweep the baseline keeps its own, and the best trial once the "
                    f"sweep has ended"
                )
    return found


def find_version(client: MlflowClient, name: str, version: str) -> ModelVersion:
    """The version of a model by its number or alias. Raises UserError if there is none."""
    # What that refuses for another reason, the list of all models refuses, too.
    with suppress(MlflowException):
        if not name.endswith(HISTORY):
            return (
                client.get_model_version(name, version)
                if version.isdigit()
                else client.get_model_version_by_alias(name, version)
            )
    raise _unknown(client, f"{name}@{version}")


def find_model(client: MlflowClient, name: str) -> RegisteredModel:
    """A registered model. Raises UserError if there is none."""
    with suppress(MlflowException):
        if not name.endswith(HISTORY):
            return client.get_registered_model(name)
    if "@" in name:
        alone = name.partition("@")[0]
        raise UserError(f"{name!r} names a version, but this is about all of a model: name it alone, as in {alone}")
    raise _unknown(client, name)


def _unknown(client: MlflowClient, model: str) -> UserError:
    name, _, seat = model.partition("@")
    registered = {model.name: model for model in registered_models(client)}
    if name in registered and seat in (CHAMPION, CANDIDATE):
        records = read_past(client, name).records
        why = f": {records[-1].move}" if records else ""
        return UserError(f"{name} has no {seat}{why}; `advseg models list` lists its versions")
    if name not in registered and _NAME.fullmatch(name) and client.get_experiment_by_name(name):
        return UserError(
            f"there is no model {model}: no trial of {name} became one, and `advseg sweep show {name}` says why; "
            f"{name}/NUMBER is the model of its best trial, {name}/{BASELINE} that of the baseline"
        )
    known = ", ".join(f"{name} ({', '.join(model.aliases)})" for name, model in registered.items())
    return UserError(f"there is no model {model}; registered models: {known or 'none yet'}")


def _run_of(client: MlflowClient, key: str) -> Run:
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`{KEY_TAG}` = '{key}'")
    if not runs:
        raise UserError(f"there is no run {key}; `advseg sweep show` lists the trials of a sweep")
    return runs[0]
