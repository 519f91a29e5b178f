"""What the model registry holds."""

from contextlib import suppress
from dataclasses import dataclass

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ..base.keys import METRIC
from ..tracking.runs import KEY_TAG
from .history import read_past, registered_models, versions_of
from .moves import Entry, moves_to
from .registering import MIOU_TAG
from .registry import find_version
from .verdicts import GATE_TAG


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """A version of a registered model."""

    name: str
    version: int
    aliases: tuple[str, ...]
    key: str | None
    """Of the trial that it was trained by; None of one that another program registered."""
    miou: float | None
    """Mean IoU in percent of what was exported, or the newest of its run; None if neither is known."""
    moves: tuple[Entry, ...]
    """How it came to each alias that it has."""
    gate: str | None
    """SHA-256 of the newest verdict on it; None if there is none."""


def list_versions(client: MlflowClient) -> list[RegisteredVersion]:
    """All versions, by the names of their models, the newest of each first."""
    return [
        RegisteredVersion(
            name=model.name,
            version=int(found.version),
            aliases=tuple(sorted(alias for alias, seat in model.aliases.items() if str(seat) == str(found.version))),
            key=found.tags.get(KEY_TAG),
            miou=_miou(client, found),
            moves=moves_to(past, int(found.version)),
            gate=found.tags.get(GATE_TAG),
        )
        for model in sorted(registered_models(client), key=lambda model: model.name)
        for past in [read_past(client, model.name)]
        for found in reversed(versions_of(client, model.name))
    ]


def registered_keys(client: MlflowClient) -> set[str]:
    """The keys of the trainings that the versions of all models came from."""
    keys, token = set(), None
    while True:
        page = client.search_model_versions(page_token=token)
        keys |= {key for version in page if (key := version.tags.get(KEY_TAG) or _key_of_run(client, version.run_id))}
        if not (token := page.token):
            return keys


def moves_of(client: MlflowClient, reference: str) -> tuple[Entry, ...]:
    """How the version of a reference came to each alias that it has; of a run's model there is none."""
    name, at, version = reference.partition("@")
    return moves_to(read_past(client, name), int(find_version(client, name, version).version)) if at else ()


def _key_of_run(client: MlflowClient, run_id: str | None) -> str | None:
    """The key of the training of a run, if it is one's; another program may have registered its model."""
    run = _run(client, run_id)
    return run.data.tags.get(KEY_TAG) if run else None


def _miou(client: MlflowClient, version: ModelVersion) -> float | None:
    # Older versions of advseg set no such tag, and anybody may have written into it.
    with suppress(KeyError, ValueError):
        return float(version.tags[MIOU_TAG])
    run = _run(client, version.run_id)
    return run.data.metrics.get(METRIC) if run else None


def _run(client: MlflowClient, run_id: str | None) -> Run | None:
    """A run; None of one that is not there any more."""
    if not run_id:
        return None
    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
