"""What a trial has cost in all its attempts, and where its things are."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a trial has cost in all its attempts, and where its things are."""

    attempts: int = 0
    """How often it was handed out."""
    lost: int = 0
    """Attempts that ended with a dead or hung worker."""
    halvings: int = 0
    """How often its micro-batch was halved after a worker ran out of memory."""
    counted: int = 0
    """Newest attempt whose seconds and lost steps are in the sums below."""
    device_seconds: float = 0.0
    """Seconds of training times the devices that it took: GPUs, or workers where there are none."""
    lost_steps: int = 0
    """Steps that had to be made again because no checkpoint held them."""
    images_per_second: float | None = None
    """Images that went through its segmenter in a second of steps, as its newest report measured it."""
    run_id: str | None = None
    """Its MLflow run."""
    checkpoint: str | None = None
    """Its newest whole checkpoint, relative to the spec's storage; None once its checkpoints were removed."""
    checksum: str | None = None
    """That checkpoint's own, as its manifest has it."""
