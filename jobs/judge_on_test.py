"""The figures to quote: of who is promoted, and of its rivals, on images that nothing was chosen by."""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from mlflow.tracking import MlflowClient
from ray.exceptions import RayTaskError

from ..platform.base.events import Stage, emit
from ..platform.base.keys import BASELINE, METRIC, key_of
from ..platform.cluster.driver import Job
from ..platform.gate.plan import SUPERVISED, champion_arm, trial_arm
from ..platform.gate.verdict import Gate
from ..platform.ledger.ledger import Ledger
from ..platform.registry.champion import Champion, trained_model
from ..platform.registry.registry import pulled
from ..platform.spec.spec import spec_from
from ..platform.storage.packs import open_dataset
from ..platform.storage.store import Store
from .evaluate import judge
from .predict import load_model


def figures_on_test(job: Job, ledger: Ledger, gate: Gate, champion: Champion | None) -> dict[str, float]:
    """The mean IoU in percent of each of them on the test images, by what it is called.

    They are judged where trainings run. Raises UserError if a model is not there, or the images are not.
    """
    emit(Stage(text="judging who is promoted by the test images, which nothing has read so far"))
    spec, resources = job.spec, job.spec.resources
    assert gate.ahead is not None and spec.sweep
    kept = {
        trial_arm(gate.ahead).told: (key_of(spec.name, gate.ahead), ledger.row(gate.ahead).account.checksum),
        SUPERVISED.told: (key_of(spec.name, BASELINE), ledger.baseline().account.checksum),
    }
    whose: dict[str, tuple[str, str | None] | str] = {**kept}
    if champion:
        version = champion.standing.version
        whose[champion_arm(version).told] = f"{spec.sweep.register_as}@{version}"
    # A process ends with its call, and gives back what it has of a GPU.
    work = ray.remote(max_calls=1)(_figure).options(
        num_cpus=resources.cpus_per_worker,
        num_gpus=resources.gpus_per_worker,
        resources={name: share for name, share in resources.per_worker.items() if name not in ("CPU", "GPU")},
        label_selector=resources.node_labels,
    )
    document = spec.model_dump(mode="json")
    asked = {name: work.remote(document, job.store, job.tracking_uri, model) for name, model in whose.items()}
    try:
        return dict(zip(asked, ray.get(list(asked.values())), strict=True))
    except RayTaskError as error:
        raise error.cause from None


def _figure(document: dict[str, Any], store: Store, tracking_uri: str, model: tuple[str, str | None] | str) -> float:
    """The mean IoU in percent of a training's model, by its key and checkpoint, or of a registered one, by its name."""
    spec = spec_from(document)
    dataset = open_dataset(spec.dataset)
    place: AbstractContextManager[Path] = (
        pulled(MlflowClient(tracking_uri), model) if isinstance(model, str) else trained_model(store, *model)
    )
    with place as folder:
        return judge(load_model(folder), replace(dataset, validation=dataset.test), spec).metrics[METRIC]
