"""What the model registry holds."""

from dataclasses import dataclass

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ..base.keys import METRIC
from ..tracking.runs import KEY_TAG
from .history import read_past, registered_models, versions_of
from .moves import Entry, moves_to
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
    """Newest mean IoU in percent of its run, None if that is not known."""
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
            miou=_miou(client, found.run_id),
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


def _miou(client: MlflowClient, run_id: str | None) -> float | None:
    run = _run(client, run_id)
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
