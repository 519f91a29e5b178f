"""One training as it travels to the process that runs it."""

from dataclasses import dataclass, replace
from typing import Any

from ..storage.store import Store
from ..tracking.identity import RunIdentity
from .lease import Attempt
from .retry import can_halve

METRICS = "metrics.jsonl"
"""The spool of a training's reports, sent or not."""
ACCUMULATION_TAG = "advseg.accumulation"
"""Tag of a run whose micro-batch was halved."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training as it travels to the process that runs it."""

    spec: dict[str, Any]
    """The spec, with the trial's own values, as JSON."""
    store: Store
    """Of all trainings."""
    tracking_uri: str
    identity: RunIdentity
    attempt: Attempt = Attempt()
    halvings: int = 0
    """How often its micro-batch was halved, in `spec` too, after it ran out of memory."""
    dataset: str | None = None
    """Digest of what it is to train on, where that is settled."""

    @property
    def key(self) -> str:
        """`<sweep>/<trial>`."""
        return self.identity.key

    def can_halve(self, workers: int) -> bool:
        """Whether its micro-batch can be halved for a second attempt after it ran out of memory."""
        return can_halve(self.spec["trainer"], workers)

    def halved(self) -> "Task":
        """The task with half the micro-batch and twice as many of them, which its run is to say."""
        trainer = self.spec["trainer"]
        accumulation = 2 * trainer["accumulation"]
        note = f"{accumulation}, after a worker ran out of memory with {trainer['accumulation']}"
        return replace(
            self,
            spec={**self.spec, "trainer": {**trainer, "accumulation": accumulation}},
            identity=replace(self.identity, tags={**self.identity.tags, ACCUMULATION_TAG: note}),
            halvings=self.halvings + 1,
        )

    @property
    def own(self) -> Store:
        """What lasts of it: checkpoints, reports, log, pictures, model."""
        return self.store.at(self.key)
