"""Whether the pruner that a spec asks for could ever stop a trial."""

from collections.abc import Iterator

from .errors import Problem
from .spec import Spec
from .sweep import Hyperband, Median, Patient, SuccessiveHalving


def unfit_pruner(spec: Spec) -> Iterator[Problem]:
    """The steps before which nothing is judged must not be more than a trial makes."""
    pruner, where = spec.sweep and spec.sweep.pruner, "sweep.pruner"
    if isinstance(pruner, Patient):
        pruner, where = pruner.wrapped, f"{where}.wrapped"
    match pruner:
        case SuccessiveHalving() | Hyperband():
            name, steps = "min_resource", pruner.min_resource
        case Median():
            name, steps = "warmup_steps", pruner.warmup_steps
        case _:
            return
    if steps > (most := spec.trainer.steps):
        remedy = "lower it, or remove sweep.pruner, which could stop no trial"
        yield Problem(f"{where}.{name}", f"must be at most trainer.steps, {most}, but is {steps}: {remedy}")
