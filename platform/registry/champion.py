"""The best trial against the supervised baseline."""

import shutil
from pathlib import Path
from typing import Any

from mlflow.tracking import MlflowClient

from ...trainers.checkpoint import CHECKPOINTS
from ...trainers.data.dataset import Dataset
from ...trainers.errors import UserError
from ...trainers.loop import Training
from ..base.keys import directory_of, key_of
from ..ledger.rows import Row
from ..spec.spec import Spec
from ..tracking.runs import run_of
from .registry import log_model, register


def keep_model(client: MlflowClient, spec: Spec, dataset: Dataset, storage: Path, key: str) -> None:
    """Log the model of a finished training in its run."""
    run_id = run_of(client, spec.name, key)
    log_model(client, export(spec, dataset, storage, key), run_id)


def crown(client: MlflowClient, spec: Spec, dataset: Dataset, storage: Path, best: Row, name: str) -> str:
    """Register the model of the best trial as the champion of `name`; return its version."""
    key = key_of(spec.name, best.number)
    run_id = run_of(client, spec.name, key)
    return register(client, export(spec.with_values(best.params), dataset, storage, key), name, run_id, key)


def export(spec: Spec, dataset: Dataset, storage: Path, key: str) -> Path:
    """Write the model of a finished training from the checkpoint of its last step; return its directory.

    Raises UserError if that is not there.
    """
    directory = directory_of(storage, key)
    training = Training(spec.recipe(), dataset, directory, any_accumulation=True)
    training.resume()
    if training.step != spec.trainer.steps:
        raise UserError(
            f"{key} has no model: it made {spec.trainer.steps} steps, but the newest checkpoint in "
            f"{directory / CHECKPOINTS} is of step {training.step}: restore that folder"
        )
    model = directory / "model"
    shutil.rmtree(model, ignore_errors=True)
    lineage: dict[str, Any] = {"key": key, "spec": spec.model_dump(mode="json")}
    training.export(model, lineage)
    return model
