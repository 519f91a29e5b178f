"""The best trial against the supervised baseline."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from ...models.manifest import checksum_of
from ...trainers.checkpoint import CHECKPOINTS, newest_sealed
from ...trainers.data.dataset import Dataset
from ...trainers.errors import UserError
from ...trainers.loop import Training
from ..base.keys import directory_of, key_of
from ..ledger.rows import Row
from ..spec.spec import Spec
from ..tracking.runs import run_of
from .registering import Registered, log_model, register


def keep_model(
    client: MlflowClient, spec: Spec, dataset: Dataset, storage: Path, key: str, checksum: str | None
) -> None:
    """Log the model of a finished training in its run. Raises UserError as `export` does."""
    run_id = run_of(client, spec.name, key)
    log_model(client, export(spec, dataset, storage, key, checksum), run_id)


def crown(
    client: MlflowClient,
    spec: Spec,
    dataset: Dataset,
    storage: Path,
    best: Row,
    name: str,
    check: Callable[[], object],
) -> Registered:
    """Register the model of the best trial as a version of `name`; `check` as for `register`.

    Raises UserError as `export` does, and then nothing is registered.
    """
    key = key_of(spec.name, best.number)
    run_id = run_of(client, spec.name, key)
    model = export(spec.with_values(best.params), dataset, storage, key, best.account.checksum)
    return register(client, model, name, run_id, key, check)


def export(spec: Spec, dataset: Dataset, storage: Path, key: str, checksum: str | None) -> Path:
    """Write the model of a finished training from the checkpoint of its last step; return its directory.

    `checksum` is that checkpoint's as the ledger has it; None, where there is no ledger or an old one, is any.
    Raises UserError if the checkpoint is not there, or another.
    """
    directory = directory_of(storage, key)
    training = Training(spec.recipe(), dataset, directory, any_accumulation=True)
    training.resume()
    if training.step != spec.trainer.steps:
        raise UserError(
            f"{key} has no model: it made {spec.trainer.steps} steps, but the newest checkpoint in "
            f"{directory / CHECKPOINTS} is of step {training.step}: restore that folder"
        )
    newest = newest_sealed(directory / CHECKPOINTS)
    if checksum is not None and newest is not None and checksum_of(newest[1]) != checksum:
        raise UserError(
            f"{key} has no model: {newest[1]} is not the checkpoint that the ledger recorded, whose checksum is "
            f"{checksum[:12]}: restore that one"
        )
    model = directory / "model"
    shutil.rmtree(model, ignore_errors=True)
    lineage: dict[str, Any] = {"key": key, "spec": spec.model_dump(mode="json")}
    training.export(model, lineage)
    return model
