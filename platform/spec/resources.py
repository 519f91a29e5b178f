"""What one training asks of the cluster."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from .section import Section

_NAME = r"[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_KEY = re.compile(rf"({_NAME}/)?{_NAME}")
_VALUE = re.compile(_NAME)
_LEAST, _MOST = 0.0001, 10_000
ACCELERATOR = "accelerator_type:"
"""What Ray calls the resource of a node that has such an accelerator, of which there is one a node."""


class Resources(Section):
    """What one training asks of the cluster."""

    workers: Annotated[int, Field(ge=1)] = 1
    """Ray Train workers that share one global batch."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 1
    """CPUs that Ray sets aside for each."""
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray sets aside for each; with 0 it computes on the CPU, whatever GPUs there are. A part of one, as 0.5,
    where a training has one worker alone: two trainings share it. A worker computes on one GPU, and any above 1 that it
    has stand idle."""
    accelerator: str | None = None
    """Kind of GPU that every worker's node must have, by Ray's name for it, as `A100` or `L4`; by default any."""
    node_labels: dict[str, str] = Field(default_factory=dict)
    """Labels that every worker's node must have, as `ray start --labels` and KubeRay give them."""
    placement: Literal["pack", "spread"] = "pack"
    """Whether a training's workers come onto as few nodes as they can, where they exchange gradients fastest, or onto
    as many."""

    @field_validator("cpus_per_worker", "gpus_per_worker")
    @classmethod
    def _is_counted(cls, amount: float) -> float:
        if amount and not _LEAST <= amount <= _MOST:
            raise ValueError(f"must be from {_LEAST}, below which Ray does not count, to {_MOST}, but is {amount:g}")
        return amount

    @field_validator("accelerator")
    @classmethod
    def _is_name(cls, accelerator: str | None) -> str | None:
        if accelerator is not None and not _VALUE.fullmatch(accelerator):
            raise ValueError(f"must be the name of an accelerator, as A100, but is {accelerator!r}")
        return accelerator

    @field_validator("node_labels")
    @classmethod
    def _are_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        for key, value in labels.items():
            if not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
                raise ValueError(f"keys and values must be labels, as in zone: eu-1, but one is {key}: {value!r}")
        return labels

    @property
    def devices(self) -> float:
        """GPUs that a training takes, or its workers where there are none."""
        return self.workers * (self.gpus_per_worker or 1)

    @property
    def per_worker(self) -> dict[str, float]:
        """What Ray sets aside for each worker, in Ray's names."""
        gpus = {"GPU": self.gpus_per_worker} if self.gpus_per_worker else {}
        # A thousandth takes none of it away from others, and holds the worker to such a node.
        kind = {f"{ACCELERATOR}{self.accelerator}": 0.001} if self.accelerator else {}
        return {"CPU": self.cpus_per_worker, **gpus, **kind}
