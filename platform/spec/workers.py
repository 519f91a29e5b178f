"""Whether the workers that a spec asks for can share its batches."""

from collections.abc import Iterable

from ...models.architectures import DeepLabSettings
from .errors import Problem
from .spec import Spec


def unfit_workers(spec: Spec) -> Iterable[Problem]:
    """Every worker needs an image of each part of a batch, and of GPUs, if any, a whole one."""
    asked = {"resources.workers": spec.resources.workers}
    if spec.sweep:
        asked["sweep.baseline_workers"] = spec.sweep.baseline_workers
    for key, workers in asked.items():
        if workers > (size := spec.trainer.micro_batch_size):
            yield Problem(key, f"must be at most trainer.batch_size / accumulation, {size}, but is {workers}")
    if max(asked.values()) > 1 and (share := spec.resources.gpus_per_worker) % 1:
        yield Problem(
            "resources.gpus_per_worker",
            f"must be a whole number where several workers train, for no two can share a GPU, but is {share:g}: "
            f"raise it, or use one worker",
        )
    synchronised = isinstance(spec.model, DeepLabSettings) and spec.model.batch_norm == "synchronised"
    if synchronised and max(asked.values()) > 1 and not spec.resources.gpus_per_worker:
        yield Problem(
            "model.batch_norm",
            "synchronised needs GPUs where several workers train, but resources.gpus_per_worker is 0: "
            "raise it, or use batch or frozen",
        )
