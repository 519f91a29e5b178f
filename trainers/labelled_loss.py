"""The cross-entropy on labelled images: which pixels count, and how much."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .distributed import World
from .hard_pixels import kth_largest
from .losses import cross_entropy_sum
from .settings import TrainerSettings

_WEIGHTS = "class_weights"


def balanced(pixels: Tensor) -> Tensor:
    """Weights of classes [K] by how many pixels each has: all pixels / (classes that occur * its own); of none, 0.

    So each class that occurs weighs as much as any other, and a pixel 1 in the mean (scikit-learn's `balanced`).
    """
    pixels = pixels.double()
    return torch.where(pixels > 0, pixels.sum() / ((pixels > 0).sum() * pixels), 0.0)


class LabelledLoss:
    """A mean over the global batch: of all known pixels alike, or as `class_weights` and `ohem` of a trainer say."""

    def __init__(self, trainer: TrainerSettings, network: nn.Module, *, ignore_index: int, world: World) -> None:
        """`network` is on the device and in the precision of what is compared. Balanced weights are told later."""
        like = next(network.parameters())
        listed = trainer.class_weights
        self._balanced = listed == "balanced"
        self._weights = torch.tensor(listed).to(like) if isinstance(listed, tuple) else None
        self._like = like.new_zeros(0)
        self._ohem = trainer.ohem
        self._least = -(-trainer.ohem.least // trainer.accumulation) if trainer.ohem else 0
        self._ignore_index = ignore_index
        self._world = world

    def __call__(self, logits: Tensor, labels: Tensor, known: Tensor) -> Tensor:
        """This worker's share of the mean, a scalar.

        logits [N, K, H, W], labels int64 [N, H, W]; `known` is how many pixels of all workers have a label, at least 1.
        """
        if self._weights is None and self._ohem is None:
            return cross_entropy_sum(logits, labels, self._ignore_index) / known
        losses = F.cross_entropy(logits, labels, ignore_index=self._ignore_index, reduction="none")
        counted = labels != self._ignore_index
        weights = counted.to(losses.dtype)
        if self._weights is not None:
            weights = weights * self._weights[labels.masked_fill(~counted, 0)]
        if self._ohem is not None:
            least = kth_largest(losses.detach(), known.clamp(max=self._least), self._world)
            # What is no number is no less either: it is not hidden.
            weights = weights.masked_fill(losses.detach() < least.clamp(max=-math.log(self._ohem.threshold)), 0.0)
        total = self._world.total(weights.sum())
        return (weights * losses).sum() / torch.where(total > 0, total, 1.0)

    def balance(self, pixels: Tensor) -> None:
        """Weigh classes so that those of few pixels [K] count as much as those of many."""
        self._weights = balanced(pixels).to(self._like)

    def state_dict(self) -> dict[str, Any]:
        """Balanced weights, which resume; nothing without."""
        return {_WEIGHTS: self._weights} if self._balanced and self._weights is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave, among other things."""
        if self._balanced:
            self._weights = state[_WEIGHTS].to(self._like)
