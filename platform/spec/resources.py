"""What one training asks of the cluster."""

from typing import Annotated

from pydantic import Field

from .section import Section


class Resources(Section):
    """What one training asks of the cluster."""

    workers: Annotated[int, Field(ge=1)] = 1
    """Ray Train workers that share one global batch."""
    cpus_per_worker: Annotated[float, Field(gt=0)] = 1
    """CPUs that Ray sets aside for each."""
    gpus_per_worker: Annotated[float, Field(ge=0)] = 0
    """GPUs that Ray sets aside for each; a part of one where a training has one worker alone."""

    @property
    def devices(self) -> float:
        """GPUs that a training takes, or its workers where there are none."""
        return self.workers * (self.gpus_per_worker or 1)
