"""A model becomes a version of a registered one, and perhaps its champion."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ...models.bundle import read_card
from ...trainers.errors import UserError
from ..base.keys import MODEL
from ..gate.verdict import Gate
from ..tracking.runs import KEY_TAG
from .model_card import MODEL_CARD, model_card
from .promotion import Candidate, Decision, Promote, Standing, decide, standing_of
from .registry import CANDIDATE, CHAMPION, pull_card
from .serving_files import write_serving_files

_DECIDED = "advseg.decided"
"""Tag of a version: the digest of the gate that decided last what it became; empty until that is decided."""
_BY_NO_GATE = "by no gate"
_EXISTS = "RESOURCE_ALREADY_EXISTS"


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A version of a registered model, and what became of it."""

    name: str
    version: str
    alias: str | None
    """The one that it has, of champion and candidate."""
    reason: str
    """Why it has that by this registration."""

    def __str__(self) -> str:
        place = f"{self.name}@{self.alias} (version {self.version})" if self.alias else f"{self.name}@{self.version}"
        return f"{place}: {self.reason}"


def register(
    client: MlflowClient, model: Path, name: str, run_id: str, key: str, gate: Gate | None, check: Callable[[], object]
) -> Registered:
    """Make the model directory of a run a version of a registered model, and decide what it becomes by a gate.

    What one and the same gate has decided before moves nothing again. `check` raises if the registration is not ours to
    make any more; it is asked immediately before an alias moves.
    """
    card = read_card(model)
    _ensure_model(client, name)
    version = _version_of(client, name, run_id, key)
    judge = hashlib.sha256(gate.to_json().encode()).hexdigest() if gate else _BY_NO_GATE
    # One that has no tag was registered by an older version of advseg.
    decided = version.tags.get(_DECIDED, _BY_NO_GATE) if version else ""
    if version is not None and decided and (gate is None or decided == judge):
        return _repeated(name, str(version.version), client.get_registered_model(name).aliases)
    if version is None:
        source = log_model(client, model, run_id)
        version = client.create_model_version(name, source, run_id=run_id, tags={KEY_TAG: key, _DECIDED: ""})
    number = str(version.version)
    decision = _decide(client, name, standing_of(number, card), gate)
    alias = CHAMPION if isinstance(decision, Promote) else CANDIDATE
    check()
    client.set_registered_model_alias(name, alias, number)
    client.set_model_version_tag(name, number, _DECIDED, judge)
    return Registered(name=name, version=number, alias=alias, reason=decision.reason)


def _decide(client: MlflowClient, name: str, challenger: Standing, gate: Gate | None) -> Decision:
    """What becomes of a version beside the sitting champion."""
    sitting = None
    champion = client.get_registered_model(name).aliases.get(CHAMPION)
    if champion is not None and str(champion) != challenger.version:
        reference = f"{name}@{champion}"
        try:
            sitting = standing_of(str(champion), pull_card(client, reference)[1])
        except UserError as error:
            return Candidate(reason=str(error))
    return decide(sitting, challenger, gate)


def _repeated(name: str, version: str, aliases: Mapping[str, Any]) -> Registered:
    """A version that was decided on before, with the alias that it has by now."""
    ours = [alias for alias in (CHAMPION, CANDIDATE) if str(aliases.get(alias)) == version]
    alias = ours[0] if ours else None
    return Registered(name=name, version=version, alias=alias, reason="it was registered before")


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
    """Log a model directory as artifacts of its run, with what describes and serves it beside; return their URI."""
    with TemporaryDirectory(prefix="advseg-") as folder:
        beside = Path(folder)
        (beside / MODEL_CARD).write_text(model_card(read_card(model, alone=True)))
        write_serving_files(beside)
        client.log_artifacts(run_id, str(beside), MODEL)
    client.log_artifacts(run_id, str(model), MODEL)
    return f"{client.get_run(run_id).info.artifact_uri}/{MODEL}"
