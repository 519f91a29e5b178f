"""Where a run comes from: its spec, packages, code, data and machine, as MLflow shows them."""

import json
import platform
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
import yaml
from mlflow.entities import Dataset as MlflowDataset
from mlflow.entities import DatasetInput, InputTag, RunTag
from mlflow.tracking import MlflowClient

from ...trainers.data.dataset import Dataset
from ..base.environment import processor

if TYPE_CHECKING:
    from .git_state import GitState

SPEC, PACKAGES, DIFF = "spec.yaml", "packages.txt", "code.diff"
"""Artifacts of a job's run."""
CODE_TAG, COMMIT_TAG = "advseg.code", "mlflow.source.git.commit"
TORCH_TAG = "advseg.torch"
_DIGEST = 36
"""Characters that MLflow takes of a dataset's digest."""


def describe_job(
    client: MlflowClient, run_id: str, document: dict[str, Any], code: str, git: "GitState | None"
) -> None:
    """Log the whole spec, the installed packages and the code of a job, of which `code` is the digest."""
    tags = {CODE_TAG: code}
    texts = {SPEC: yaml.safe_dump(document, sort_keys=False), PACKAGES: packages()}
    if git is not None:
        tags |= {COMMIT_TAG: git.commit, "mlflow.source.git.branch": git.branch}
        texts |= {DIFF: git.diff} if git.diff else {}
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    for name, text in texts.items():
        client.log_text(run_id, text, name)


def describe_training(client: MlflowClient, run_id: str, dataset: Dataset, root: str) -> None:
    """Log the machine that trains, and the dataset at `root` as the run's input. Once more changes nothing."""
    tags = {**hardware(), "advseg.dataset": dataset.digest}
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    inputs = client.get_run(run_id).inputs
    if inputs and inputs.dataset_inputs:
        return
    parts = {part: len(samples) for part, samples in dataset.parts.items()}
    described = MlflowDataset(
        name=Path(root).name,
        digest=dataset.digest[:_DIGEST],
        source_type="local",
        source=json.dumps({"uri": root}),
        profile=json.dumps({**parts, "classes": len(dataset.classes)}),
    )
    client.log_inputs(run_id, [DatasetInput(described, [InputTag("mlflow.data.context", "training")])])


def packages() -> str:
    """All installed packages of this environment, as pip writes them."""
    found = {f"{each.metadata['Name']}=={each.version}" for each in distributions() if each.metadata["Name"]}
    return "".join(f"{line}\n" for line in sorted(found, key=str.lower))


def hardware() -> dict[str, str]:
    """What this machine is, by the names of the run's tags."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "advseg.host": platform.node(),
        "advseg.system": platform.platform(),
        "advseg.python": platform.python_version(),
        TORCH_TAG: torch.__version__,
        "advseg.cpu": f"{psutil.cpu_count()} x {processor()}",
        "advseg.memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "advseg.gpu": ", ".join(gpus) or "none",
    }
