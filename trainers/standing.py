"""Where a training stands, beside its networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self


@dataclass(kw_only=True)
class Standing:
    """What a checkpoint has of it beside tensors, under the same names."""

    step: int = 0
    """Steps made so far."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Those of the newest report."""
    best_miou: float = 0.0
    best_step: int = 0
    """Where that was reached first; 0 before any."""
    collapsed: int = 0
    """Reports in a row that told of a collapse."""
    start_weights: str | None = None
    """Digest of those that it began with."""
    grown: list[tuple[int, int]] = field(default_factory=list)
    """Where its steps grew: the step at which it stood, and how many there were to be until then."""

    @classmethod
    def in_state(cls, state: Mapping[str, Any]) -> Self:
        """That of a checkpoint's state; those of before lack some of it."""
        return cls(**{each.name: state[each.name] for each in fields(cls) if each.name in state})

    def judged(self, metrics: dict[str, float]) -> None:
        """Take up the figures of this step."""
        self.metrics = metrics
        if metrics["val/miou"] > self.best_miou:
            self.best_miou, self.best_step = metrics["val/miou"], self.step
