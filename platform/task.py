"""One training as it travels to the process that runs it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .keys import directory_of, scratch_of
from .runs import RunIdentity

METRICS = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One training as it travels to the process that runs it."""

    spec: dict[str, Any]
    """The spec, with the trial's own values, as JSON."""
    storage: Path
    tracking_uri: str
    identity: RunIdentity

    @property
    def key(self) -> str:
        """`<sweep>/<trial>`."""
        return self.identity.key

    @property
    def directory(self) -> Path:
        """Where it keeps its checkpoints, log and pictures."""
        return directory_of(self.storage, self.key)

    @property
    def spool(self) -> Path:
        """Where its reports are kept, sent or not."""
        return self.directory / METRICS

    @property
    def scratch(self) -> Path:
        """Where Ray may keep what nobody reads again."""
        return scratch_of(self.storage, self.identity.experiment)
