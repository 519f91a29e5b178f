"""Which checkpoints of a run stay, and of which the model is."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Export = Literal["last", "best"]


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The newest ones, and that of the best step."""

    newest: int = 2
    """How many of the newest: if one is damaged, the run goes on from the one before it."""
    best: int = 0
    """The step of the best evaluation so far, of equals the first; 0 before any."""

    def superseded(self, steps: Iterable[int], step: int) -> list[int]:
        """Those of some steps that go, newest first, once the checkpoint of `step` is there."""
        # Damaged newer ones may lie there if the run went back to this step.
        older = sorted((old for old in steps if old <= step), reverse=True)
        return [old for old in older[self.newest :] if old != self.best]
