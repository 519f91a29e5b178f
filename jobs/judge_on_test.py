"""The figures to quote: of who passes the gate, and of its rivals, on images that no training and no choice reads."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray.exceptions import RayTaskError

from ..platform.base.events import Stage, emit
from ..platform.base.keys import BASELINE, METRIC, key_of
from ..platform.cluster.driver import Job
from ..platform.gate.plan import SUPERVISED, champion_arm, trial_arm
from ..platform.gate.verdict import Gate, Incumbent
from ..platform.ledger.ledger import Ledger
from ..platform.registry.champion import trained_model
from ..platform.registry.registry import find_source, pulled
from ..platform.spec.spec import spec_from
from ..platform.storage.packs import open_dataset
from ..platform.storage.store import Store
from ..platform.tracking.patience import patiently
from ..platform.workers.device import device_by
from ..trainers.errors import UserError
from .evaluate import judge
from .predict import load_model

Model = tuple[str, str | None] | Mapping[str, bytes]
"""A training's, by its key and checkpoint, or a registered one, by its files."""


def missing_figures(job: Job, ledger: Ledger, gate: Gate) -> Iterator[tuple[str, float]]:
    """The mean IoU in percent on the test images of each of them that a gate lacks, by what it is called, as they come.

    They are judged where trainings run. Raises UserError if a training's model is not there, or the images are not; a
    champion that cannot be had any more is left out, and told.
    """
    whose = {name: model for name, model in _models(job, ledger, gate).items() if name not in gate.test}
    if not whose:
        return
    emit(Stage(text="judging who passes by the test images, which no training and no choice reads"))
    for name, figure in _asked(job, whose).items():
        try:
            yield name, ray.get(figure)
        except RayTaskError as error:
            raise error.cause from None


def _asked(job: Job, models: Mapping[str, Model]) -> dict[str, ray.ObjectRef]:
    """The figures of models, as they are made where trainings run."""
    resources = job.spec.resources
    # A process ends with its call, and gives back what it has of a GPU.
    work = ray.remote(max_calls=1)(_figure).options(
        num_cpus=resources.cpus_per_worker,
        num_gpus=resources.gpus_per_worker,
        resources={name: share for name, share in resources.per_worker.items() if name not in ("CPU", "GPU")},
        label_selector=resources.node_labels,
    )
    document = job.spec.model_dump(mode="json")
    return {name: work.remote(document, job.store, model) for name, model in models.items()}


def _models(job: Job, ledger: Ledger, gate: Gate) -> dict[str, Model]:
    assert gate.ahead is not None
    sweep, champion = job.spec.name, gate.champion
    models: dict[str, Model] = {
        trial_arm(gate.ahead).told: (key_of(sweep, gate.ahead), ledger.row(gate.ahead).account.checksum),
        SUPERVISED.told: (key_of(sweep, BASELINE), ledger.baseline().account.checksum),
    }
    if champion and (told := champion_arm(champion.version, champion.run).told) not in gate.test:
        try:
            models[told] = patiently(lambda: _files_of(job, champion))
        except UserError as error:
            emit(Stage(text=f"{told}, is not judged by the test images: {error}"))
    return models


def _files_of(job: Job, champion: Incumbent) -> dict[str, bytes]:
    """The files of a champion's model, pulled here: only the driver has an account of MLflow."""
    reference = f"{champion.model}@{champion.version}"
    if find_source(job.client, reference).run_id != champion.run:
        raise UserError(f"{reference} is another model by now")
    with pulled(job.client, reference) as folder:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _figure(document: dict[str, Any], store: Store, model: Model) -> float:
    """The mean IoU in percent of a model; it asks MLflow nothing."""
    spec = spec_from(document)
    device = device_by(spec.resources)
    dataset = open_dataset(spec.dataset)
    judged = replace(dataset, validation=dataset.test)
    if isinstance(model, tuple):
        with trained_model(store, *model) as folder:
            return judge(load_model(folder, device), judged, spec).metrics[METRIC]
    with TemporaryDirectory(prefix="advseg-") as scratch:
        for name, content in model.items():
            path = Path(scratch, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return judge(load_model(Path(scratch), device), judged, spec).metrics[METRIC]
