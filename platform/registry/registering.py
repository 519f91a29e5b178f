"""A model becomes a version of a registered one, and perhaps its champion."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ...models.bundle import read_card
from ...trainers.errors import UserError
from ..base.keys import MODEL
from ..tracking.runs import KEY_TAG
from .promotion import Candidate, Keep, Promote, Standing, decide, standing_of
from .registry import CANDIDATE, CHAMPION, pull_card

_UNDECIDED = "advseg.undecided"
"""Tag of a version until it is decided what it becomes."""
_EXISTS = "RESOURCE_ALREADY_EXISTS"


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A version of a registered model, and what became of it."""

    name: str
    version: str
    alias: str | None
    """The one that it has, of champion and candidate."""
    reason: str = ""
    """Why it is not the champion by this registration."""

    def __str__(self) -> str:
        place = f"{self.name}@{self.alias} (version {self.version})" if self.alias else f"{self.name}@{self.version}"
        return f"{place}: {self.reason}" if self.reason else place


def register(
    client: MlflowClient, model: Path, name: str, run_id: str, key: str, check: Callable[[], object]
) -> Registered:
    """Make the model directory of a run a version of a registered model, and decide once what it becomes.

    A trial whose version has been decided on moves nothing again. `check` raises if the registration is not ours to
    make any more; it is asked immediately before an alias moves.
    """
    card = read_card(model)
    _ensure_model(client, name)
    version = _version_of(client, name, run_id, key)
    if version is not None and _UNDECIDED not in version.tags:
        return _repeated(name, str(version.version), client.get_registered_model(name).aliases)
    if version is None:
        tags = {KEY_TAG: key, _UNDECIDED: "yes"}
        version = client.create_model_version(name, log_model(client, model, run_id), run_id=run_id, tags=tags)
    number = str(version.version)
    found = _decide(client, name, standing_of(number, card))
    if found.alias is not None:
        check()
        client.set_registered_model_alias(name, found.alias, number)
    client.delete_model_version_tag(name, number, _UNDECIDED)
    return found


def _decide(client: MlflowClient, name: str, challenger: Standing) -> Registered:
    """What a version becomes beside the sitting champion."""
    number, sitting, unread = challenger.version, None, ""
    champion = client.get_registered_model(name).aliases.get(CHAMPION)
    if champion is not None and str(champion) != number:
        reference = f"{name}@{champion}"
        try:
            sitting = standing_of(str(champion), pull_card(client, reference)[1])
        except UserError as error:
            unread = str(error)
    decision = Candidate(reason=unread) if unread else decide(sitting, challenger)
    match decision:
        case Promote():
            return Registered(name=name, version=number, alias=CHAMPION)
        case Candidate(reason=reason):
            return Registered(name=name, version=number, alias=CANDIDATE, reason=reason)
        case Keep(reason=reason):
            return Registered(name=name, version=number, alias=None, reason=reason)


def _repeated(name: str, version: str, aliases: Mapping[str, Any]) -> Registered:
    """A version that was decided on before, with the alias that it has by now."""
    ours = [alias for alias in (CHAMPION, CANDIDATE) if str(aliases.get(alias)) == version]
    alias = ours[0] if ours else None
    return Registered(
        name=name, version=version, alias=alias, reason="" if alias == CHAMPION else "it was registered before"
    )


def _ensure_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != _EXISTS:
            raise


def _version_of(client: MlflowClient, name: str, run_id: str, key: str) -> ModelVersion | None:
    versions = client.search_model_versions(f"name = '{name}'")
    return next((v for v in versions if v.run_id == run_id and v.tags.get(KEY_TAG) == key), None)


def log_model(client: MlflowClient, model: Path, run_id: str) -> str:
    """Log a model directory as artifacts of its run; return their URI."""
    client.log_artifacts(run_id, str(model), MODEL)
    return f"{client.get_run(run_id).info.artifact_uri}/{MODEL}"
