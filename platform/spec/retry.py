"""What a job spec says of trainings that break."""

from typing import Annotated

from pydantic import Field

from .section import Section


class Retry(Section):
    """When a trial is tried again, what counts as a lost worker, and when the whole sweep stops."""

    max_attempts: Annotated[int, Field(ge=1)] = 3
    """Attempts that may be lost to dead or hung workers before the trial fails. Pre-empted ones do not count, nor do
    those that a disk, a mount, a driver or a server ended."""
    stop_after: Annotated[int, Field(ge=1)] = 5
    """Times in a row, with no report in between, that a disk, a mount, a driver or a server may end a trial, which is
    tried again after 3 to 30 seconds, before the sweep stops and leaves it unfinished. So many trials that fail of one
    error before any has reported stop it, too."""
    hang_timeout: Annotated[float, Field(gt=0)] = 600
    """Seconds without any progress, be it a step, a batch of an evaluation or a file opened, after which a worker
    counts as hung; from its first sign of life on, so that it may wait for its CPUs and GPUs."""
    start_timeout: Annotated[float, Field(gt=0)] = 3600
    """Seconds in which nothing of a job begins, as others hold the CPUs or GPUs that it needs, before it stops."""
    trial_timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds that a trial may train in all its attempts together."""
