"""Learning from labelled images alone: what every other method is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ...models.bundle import Card
from ...models.segmenter import Segmenter
from ...models.settings import Settings
from ..data.dataset import Dataset
from ..distributed import World
from ..export import export
from ..labelled_loss import LabelledLoss
from ..learner import segmenter_learner
from ..meter import Found, Meter
from ..profiling import phase
from ..replay import runner
from ..settings import TrainerSettings
from .method import Batch, Wants


@dataclass(frozen=True, kw_only=True)
class SupervisedSettings(Settings):
    """Cross-entropy on labelled images, which has no knobs."""

    name: Literal["supervised"] = "supervised"

    def check(self, trainer: TrainerSettings) -> None:
        """Nothing: it goes with any trainer."""

    def check_dataset(self, dataset: Dataset) -> None:
        """Nothing: every dataset has labelled images."""


class Supervised:
    """A segmenter that learns from labelled images."""

    def __init__(self, trainer: TrainerSettings, segmenter: Segmenter, *, ignore_index: int, world: World) -> None:
        self.meter = Meter(world)
        self.labelled_loss = LabelledLoss(trainer, segmenter, ignore_index=ignore_index, world=world)
        self._learner = segmenter_learner(segmenter, trainer, self.meter)
        self.segmenter = self.student = self._learner.network
        self._run = runner(trainer.speed)
        self._ignore_index = ignore_index
        self._world = world

    def wants(self, step: int) -> Wants:
        """Labelled images alone."""
        return Wants()

    def step(self, step: int, micro_batches: Sequence[Batch]) -> None:
        """Match the masks."""
        self._learner.begin()
        known = [(batch.labels != self._ignore_index).sum() for batch in micro_batches]
        learn = partial(self._learn_from, 1 / len(micro_batches))
        for batch, pixels in zip(micro_batches, self._world.denominator(torch.stack(known)), strict=True):
            self.meter.count(self._run(learn, batch, pixels, None), step)
        with phase("optimizers"):
            self._learner.update(step)

    def _learn_from(self, weight: float, batch: Batch, pixels: Tensor) -> Found:
        loss = self.labelled_loss(self._learner(batch.images), batch.labels, pixels)
        self._learner.learn_from(weight * loss)
        return Found(losses={"loss/ce": loss.detach()})

    def rates(self, step: int) -> dict[str, float]:
        """The segmenter's."""
        return {self._learner.name: self._learner.rate(step)}

    def maps(self, probabilities: Tensor) -> dict[str, Tensor]:
        """None: nothing judges predictions."""
        return {}

    def symptoms(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """None of its own."""
        return ()

    def export(self, path: Path, card: Card) -> None:
        """Write the segmenter."""
        export(path, card, self.segmenter)

    def state_dict(self) -> dict[str, Any]:
        """The segmenter, its optimizer, and balanced weights."""
        return {"segmenter": self._learner.state_dict(), **self.labelled_loss.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave."""
        self._learner.load_state_dict(state["segmenter"])
        self.labelled_loss.load_state_dict(state)
