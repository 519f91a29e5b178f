"""The MLflow runs of a job: one parent, one child for each training."""

from typing import Any

from .keys import key_of
from .spec import Spec
from .tracking import RunIdentity


def sweep_identity(spec: Spec) -> RunIdentity:
    """The parent run of a sweep."""
    return RunIdentity(experiment=spec.name, key=spec.name, params=_flat(spec))


def trial_identity(spec: Spec, trial: int | str) -> RunIdentity:
    """The run of one training, whose values are those of `spec`."""
    return RunIdentity(experiment=spec.name, key=key_of(spec.name, trial), parent=spec.name, params=_flat(spec))


def single_identity(spec: Spec) -> RunIdentity:
    """The run of a training that belongs to no sweep."""
    return RunIdentity(experiment=spec.name, key=key_of(spec.name, 0), params=_flat(spec))


def _flat(spec: Spec) -> dict[str, Any]:
    """The sections that determine a training, as one level of dotted keys."""
    document = spec.model_dump(mode="json", include={"dataset", "model", "discriminator", "trainer"})
    params: dict[str, Any] = {}
    pending = list(document.items())
    while pending:
        key, value = pending.pop(0)
        if isinstance(value, dict):
            pending += [(f"{key}.{name}", child) for name, child in value.items()]
        else:
            params[key] = value
    return params
