"""A model becomes a version of a registered one, and perhaps its champion."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ...models.bundle import read_card
from ...models.card import Card
from ...trainers.errors import UserError
from ..base.keys import METRIC, MODEL, sweep_of
from ..gate.verdict import Gate
from ..tracking.runs import KEY_TAG
from .confirmed import UNCONFIRMED
from .history import create_model, ensure_history, move_alias, permitted, read_past, versions_of
from .model_card import MODEL_CARD, model_card
from .moves import CANDIDATE, CHAMPION, Move, Past
from .promotion import Candidate, Decision, Promote, Standing, decide, standing_of
from .registry import find_version, pull_card
from .serving_files import write_serving_files
from .verdicts import description_of, digest_of, hold_verdict

MIOU_TAG = "advseg.miou"
"""Tag of a version: the mean IoU in percent of what was exported, which may be of another step than its run's last."""
_README = f"{MODEL}/{MODEL_CARD}"


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

    What one and the same gate has decided before moves nothing again, and is not registered again if its version was
    deleted since. `check` raises if the registration is not ours to make any more; it is asked immediately before a
    verdict or a move is recorded. Raises UserError if MLflow does not let us.
    """
    card = read_card(model)
    with permitted(client, name):
        create_model(client, name)
        history = ensure_history(client, name)
        judge = digest_of(gate) if gate else None
        if deleted := _deleted(client, name, run_id, key, judge):
            return deleted
        version = _ensure_version(client, model, card, name, run_id, key, gate)
        number = int(version.version)
        # There was no history where an older version of advseg registered it.
        is_older = version.creation_timestamp < (history.creation_timestamp or 0)

        if gate:
            check()
            hold_verdict(client, version, gate)

        def decide_anew(past: Past) -> Move | None:
            if _decided(past, number, run_id, judge) or (is_older and judge is None):
                return None
            decision = _decide(client, name, past.seated(CHAMPION), standing_of(str(number), card, run_id), gate)
            alias = CHAMPION if isinstance(decision, Promote) else CANDIDATE
            return past.move(alias, number, decision.reason, sweep=sweep_of(key), gate=judge, run=run_id)

        record = move_alias(client, name, decide_anew, check)
        if record is None:
            return _repeated(name, str(number), client.get_registered_model(name).aliases)
    return Registered(name=name, version=str(number), alias=record.move.alias, reason=record.move.why)


def _decided(past: Past, version: int | None, run_id: str, gate: str | None) -> list[Move]:
    """What was decided before of a version, or of the run that it is made of: by this gate, or by anybody without."""
    moves = [record.move for record in past.records if record.move.run == run_id or record.move.to_version == version]
    return [move for move in moves if gate in (None, move.gate)]


def _deleted(client: MlflowClient, name: str, run_id: str, key: str, gate: str | None) -> Registered | None:
    """The version of a run that was decided on before and that somebody deleted since."""
    decided = _decided(read_past(client, name), None, run_id, gate)
    if not decided or _versions_of(client, name, run_id, key):
        return None
    reason = "it was registered before, and that version was deleted since: it is not registered again"
    return Registered(name=name, version=str(decided[-1].to_version), alias=None, reason=reason)


def _decide(client: MlflowClient, name: str, champion: int | None, challenger: Standing, gate: Gate | None) -> Decision:
    """What becomes of a version beside the sitting champion."""
    sitting = None
    if champion is not None and str(champion) != challenger.version:
        reference = f"{name}@{champion}"
        try:
            run, (_, card) = find_version(client, name, str(champion)).run_id, pull_card(client, reference)
        except UserError as error:
            return Candidate(reason=str(error))
        sitting = standing_of(str(champion), card, run)
    return decide(sitting, challenger, gate)


def _repeated(name: str, version: str, aliases: Mapping[str, Any]) -> Registered:
    """A version that was decided on before, with the alias that it has by now."""
    ours = [alias for alias in (CHAMPION, CANDIDATE) if str(aliases.get(alias)) == version]
    alias = ours[0] if ours else None
    return Registered(name=name, version=version, alias=alias, reason="it was registered before")


def _ensure_version(
    client: MlflowClient, model: Path, card: Card, name: str, run_id: str, key: str, gate: Gate | None
) -> ModelVersion:
    """The version of a run, made if there is none."""
    found = _versions_of(client, name, run_id, key)
    described = found and any(file.path == _README for file in client.list_artifacts(run_id, MODEL))
    if not found:
        source, said = log_model(client, model, run_id), description_of(UNCONFIRMED)
        tags = {KEY_TAG: key} | ({MIOU_TAG: repr(card.metrics[METRIC])} if METRIC in card.metrics else {})
        client.create_model_version(name, source, run_id=run_id, tags=tags, description=said)
        # MLflow's client repeats a request whose answer was lost, and then there are two.
        found = _versions_of(client, name, run_id, key)
        for repeated in found[1:]:
            _delete(client, repeated)
    # Before it was made nobody knew its number, and whoever made it may have been killed then.
    if not described:
        describe_model(client, model, run_id, gate, f"{name}@{found[0].version}")
    return found[0]


def _delete(client: MlflowClient, version: ModelVersion) -> None:
    try:
        client.delete_model_version(version.name, version.version)
    except MlflowException as error:
        # The answer was lost, and the request repeated.
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _versions_of(client: MlflowClient, name: str, run_id: str, key: str) -> list[ModelVersion]:
    """The versions that were made of a run, the oldest first."""
    found = versions_of(client, name)
    return [version for version in found if version.run_id == run_id and version.tags.get(KEY_TAG) == key]


def log_model(client: MlflowClient, model: Path, run_id: str) -> str:
    """Log a model directory as artifacts of its run, with what serves it beside; return their URI."""
    with TemporaryDirectory(prefix="advseg-") as folder:
        write_serving_files(Path(folder), read_card(model, alone=True))
        client.log_artifacts(run_id, folder, MODEL)
    client.log_artifacts(run_id, str(model), MODEL)
    return f"{client.get_run(run_id).info.artifact_uri}/{MODEL}"


def describe_model(
    client: MlflowClient, model: Path, run_id: str, gate: Gate | None = None, reference: str | None = None
) -> None:
    """Log what says to people what a model is, beside it; the rest as for `model_card`."""
    client.log_text(run_id, model_card(read_card(model, alone=True), gate, reference=reference), _README)
