"""Sums of metrics that stay on the device until they are reported."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .distributed import World
from .errors import NonFiniteLossError

_NEVER = torch.iinfo(torch.int64).max


@dataclass(frozen=True, kw_only=True)
class Found:
    """Figures of a batch on the device, before a meter counts them."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    """This worker's shares of losses, which must be finite, in the order in which they arose."""
    ratios: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Numerators and denominators."""


class Meter:
    """Collects figures of many steps and gives their means without a host synchronisation in between.

    A figure is a ratio of two sums. The first step at which a watched one was NaN or infinite is kept on
    the device and raised by `take`.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._sums: dict[str, Tensor] = {}
        self._first_bad: dict[str, Tensor] = {}

    def add(self, name: str, numerator: Tensor, denominator: Tensor | float) -> None:
        """Count a share of a figure. Numerators and denominators are summed over steps and workers."""
        numerator = numerator.detach().double()
        if not isinstance(denominator, Tensor):
            denominator = torch.full_like(numerator, denominator)
        share = torch.stack([numerator, denominator.to(numerator)])
        self._sums[name] = self._sums[name] + share if name in self._sums else share

    def add_watched(self, name: str, value: Tensor, step: int) -> None:
        """Count this worker's share of a loss or gradient norm of one step, which must be finite."""
        self.add(name, value, 1 / self.world.size)
        first = self._first_bad.get(name, torch.full_like(value, _NEVER, dtype=torch.int64))
        bad = ~value.detach().isfinite()
        self._first_bad[name] = torch.where(bad, first.clamp(max=step), first)

    def count(self, found: Found, step: int) -> None:
        """Count the figures of a batch of a step."""
        for name, loss in found.losses.items():
            self.add_watched(name, loss, step)
        for name, (numerator, denominator) in found.ratios.items():
            self.add(name, numerator, denominator)

    def take(self) -> dict[str, float]:
        """The means since the last call, over all workers; a figure whose denominator is 0 is left out.

        Raises NonFiniteLossError with the term and the first step if a watched figure was NaN or infinite.
        """
        if not self._sums:
            return {}
        names = list(self._sums)
        sums = self.world.total(torch.stack([self._sums[name] for name in names])).tolist()
        bad_names = list(self._first_bad)
        bad = self.world.smallest(torch.stack([self._first_bad[name] for name in bad_names])).tolist()
        self._sums.clear()
        self._first_bad.clear()
        # Of those that broke in one step the first one counted: the others follow from it.
        step, name = min(zip(bad, bad_names, strict=True), key=lambda pair: pair[0])
        if step != _NEVER:
            raise NonFiniteLossError(
                f"{name} became NaN or infinite at step {step}: lower the learning rates or the weights of the losses"
            )
        return {name: num / den for name, (num, den) in zip(names, sums, strict=True) if den > 0}

    def state_dict(self) -> dict[str, Any]:
        """The sums since the last `take`, over all workers, each of which must ask; empty right after it."""
        return {
            "sums": {name: self.world.total(share.clone()) for name, share in self._sums.items()},
            "first_bad": {name: self.world.smallest(first.clone()) for name, first in self._first_bad.items()},
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Take up what `state_dict` gave."""
        # The sums of all are the leading worker's share of them.
        weight = 1.0 if self.world.leads else 0.0
        self._sums = {name: share.to(device) * weight for name, share in state["sums"].items()}
        self._first_bad = {name: first.to(device) for name, first in state["first_bad"].items()}
