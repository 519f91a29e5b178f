"""What a gate found of registered versions. It is kept with each, for a version may be judged long after it was made.

The verdict lies beside the model under its SHA-256, which a tag of the version names, and stands in the version's
description, which the MLflow UI shows.
"""

import hashlib
import re
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from ...models.files import MAX_DOCUMENT_MIB, open_regular, shown
from ..base.keys import MODEL
from ..base.visible import visible_line
from ..gate.verdict import Gate
from ..tracking.runs import KEY_TAG
from .confirmed import CONFIRMED, confirmed
from .history import permitted, read_past, versions_of
from .registry import fetch, find_source, find_version, telling

GATE_TAG = "advseg.gate"
"""Tag of a version: SHA-256 of the newest verdict on it."""
_DIGEST = re.compile("[0-9a-f]{64}")


def digest_of(gate: Gate) -> str:
    """SHA-256 of the verdict's JSON, by which records of moves and tags name it."""
    return hashlib.sha256(gate.to_json().encode()).hexdigest()


def description_of(verdict: str) -> str:
    """What the MLflow UI shows of a version."""
    return f"### {CONFIRMED}\n\n{verdict}"


def hold_verdict(client: MlflowClient, version: ModelVersion, gate: Gate) -> None:
    """Keep a verdict with a version of ours, as the newest on it. The tag comes last: with it the verdict counts."""
    digest = digest_of(gate)
    if version.tags.get(GATE_TAG) == digest:
        return
    assert version.run_id
    client.log_text(version.run_id, gate.to_json(), f"{MODEL}/{_place(digest)}")
    client.update_model_version(version.name, version.version, description_of(confirmed(version.tags[KEY_TAG], gate)))
    client.set_model_version_tag(version.name, version.version, GATE_TAG, digest)


def hold_verdicts(client: MlflowClient, name: str, runs: Collection[str | None], gate: Gate) -> None:
    """Keep a verdict with every version that was made of one of these runs. Raises UserError where MLflow refuses."""
    with permitted(client, name):
        for version in versions_of(client, name):
            if version.run_id and version.run_id in runs and KEY_TAG in version.tags:
                hold_verdict(client, version, gate)


def read_verdict(client: MlflowClient, reference: str) -> Gate | None:
    """The newest verdict on the version of a reference; None if there is none, and of a run's model.

    Raises UserError if it cannot be read, or was changed.
    """
    name, at, number = reference.partition("@")
    digest = find_version(client, name, number).tags.get(GATE_TAG) if at else None
    if digest is None:
        return None
    found = find_source(client, reference)
    with telling(f"the verdict on {reference} cannot be read"), TemporaryDirectory(prefix="advseg-") as folder:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"its tag {GATE_TAG} is no SHA-256, but {shown(digest)}")
        fetch(client, found.source, [_place(digest)], Path(folder))
        with open_regular(Path(folder) / _place(digest)) as file:
            content = file.read(MAX_DOCUMENT_MIB * 2**20)
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(f"{_place(digest)} differs from its checksum")
        return Gate.from_json(content)


def doubt(client: MlflowClient, reference: str) -> str:
    """Where the newest verdict on a version is not that by which it was moved last, in a line; empty if it is.

    Moves are recorded where whoever changes a verdict does not come by.
    """
    name, at, number = reference.partition("@")
    if not at:
        return ""
    version = find_version(client, name, number)
    held, records = version.tags.get(GATE_TAG), read_past(client, name).records
    gates = [each.move.gate for each in records if each.move.to_version == int(version.version) and each.move.gate]
    if not gates or gates[-1] == held:
        return ""
    newest = "gone: somebody deleted it"
    if held is not None:
        newest = f"{visible_line(held[:12])}: it was judged again since, or somebody changed it"
    return (
        f"version {version.version} of {name} was moved by the verdict {visible_line(gates[-1][:12])}, as `advseg "
        f"models history {name}` says, but the newest on it, which its tag {GATE_TAG} names, is {newest}"
    )


def _place(digest: str) -> str:
    """Where a verdict lies, beside the files of the model."""
    return f"gates/{digest}.json"
