"""Whether the workers that a spec asks for can share its batches."""

from collections.abc import Iterable
from operator import itemgetter

from .errors import Problem
from .spec import Spec


def unfit_workers(spec: Spec, *, in_sweep: bool) -> Iterable[Problem]:
    """Every worker needs images of each part of a batch, and of GPUs, if any, a whole one or, alone, a part."""
    asked = {"resources.workers": spec.resources.workers}
    if spec.sweep:
        asked["sweep.baseline_workers"] = spec.sweep.baseline_workers
    (batch, size), least = min(spec.trainer.micro_batches.items(), key=itemgetter(1)), spec.model.least_share
    each, why = (
        ("", "") if least == 1 else (f" / {least}", f", as {spec.model.architecture} learns from {least} at once")
    )
    for key, workers in asked.items():
        if workers > (most := size // least):
            yield Problem(key, f"must be at most trainer.{batch} / accumulation{each}, {most}, but is {workers}{why}")
    several, share = max(asked.values()) > 1, spec.resources.gpus_per_worker
    if share % 1 and several:
        yield Problem(
            "resources.gpus_per_worker",
            f"must be a whole number where several workers train, for no two can share a GPU, but is {share:g}: "
            f"raise it, or use one worker",
        )
    elif share % 1 and share > 1:
        yield Problem(
            "resources.gpus_per_worker",
            f"must be a whole number or below 1, for Ray shares out one GPU alone, but is {share:g}: take 1",
        )
    if spec.trainer.speed.graphs and (several or (in_sweep and not share)):
        yield Problem(
            "trainer.speed.graphs",
            f"is for one worker on a GPU, but {max(asked.values())} with gpus_per_worker {share:g} train: set it to "
            f"false, or ask for one with 1",
        )
    if spec.model.norm == "synchronised" and several and not share:
        yield Problem(
            "model.batch_norm",
            "synchronised needs GPUs where several workers train, but resources.gpus_per_worker is 0: "
            "raise it, or use batch or frozen",
        )
