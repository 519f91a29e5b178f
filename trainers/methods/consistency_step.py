"""The training step of weak-to-strong consistency (FixMatch, Sohn et al., 2020; UniMatch V2, Yang et al., 2025).

    L = (L_ce + lambda_adv * L_adv + lambda_semi * L_semi) / 2

A teacher labels the weak views; the student learns from the masks, and in strong views from what the teacher is sure
of. L_semi is a mean over all pixels that are no padding, those that are not selected adding nothing: few selected ones
weigh little. Every mean is over the global batch, as in the adversarial method, and nothing here waits for the device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...models.bundle import Card
from ...models.discriminator import Discriminator
from ...models.segmenter import Segmenter
from ..distributed import World
from ..export import export
from ..labelled_loss import LabelledLoss
from ..learner import segmenter_learner
from ..losses import adversarial_loss_sum, pseudo_label_loss_sum
from ..meter import Found, Meter
from ..profiling import phase
from ..replay import runner
from ..settings import TrainerSettings
from . import feature_dropout
from .consistency import ConsistencySettings
from .critic import Critic, won
from .cutmix import inside, mixed
from .method import Batch, Wants
from .selected import selected_ratios
from .teacher import Follower, Teacher

_HALF = 0.5
"""Weight of labelled images, and of unlabelled ones (UniMatch V2, unimatch_v2.py)."""


@dataclass(frozen=True, kw_only=True)
class _Views:
    """Strong views of this worker's images, all first ones before all second ones, mixed with those of partners."""

    images: Tensor
    labels: Tensor
    """The teacher's, int64 [N, H, W]."""
    selected: Tensor
    """bool [N, H, W]: where it is sure of them."""


class Consistency:
    """A student, its teacher and perhaps a critic of its predictions. The settings use unlabelled images."""

    def __init__(
        self,
        settings: ConsistencySettings,
        trainer: TrainerSettings,
        segmenter: Segmenter,
        discriminator: Discriminator | None,
        *,
        ignore_index: int,
        world: World,
    ) -> None:
        """There is a discriminator if the settings use one."""
        assert settings.lambda_semi > 0
        self.settings = settings
        self.meter = Meter(world)
        self.labelled_loss = LabelledLoss(trainer, segmenter, ignore_index=ignore_index, world=world)
        self._segment = segmenter_learner(segmenter, trainer, self.meter)
        self.student = self._segment.network
        follows = settings.teacher == "ema"
        self._follower = Follower(self.student, settings.ema_decay, trainer.speed) if follows else None
        self._teacher = self._follower or Teacher(self.student, trainer.speed)
        self.segmenter = self._teacher.network
        optimizer = settings.discriminator_optimizer
        self._critic = discriminator and Critic(
            discriminator, optimizer, trainer, self.meter, ignore_index=ignore_index
        )
        self._learners = (self._segment, self._critic.learner) if self._critic else (self._segment,)
        self._joint_forward = trainer.speed.joint_forward
        self._run = runner(trainer.speed)
        self._ignore_index = ignore_index
        self._world = world

    def wants(self, step: int) -> Wants:
        """Unlabelled images and how strong views are made of them, and ground truth for a critic."""
        strong = self.settings.views * (self.settings.strong,)
        return Wants(real=self._critic is not None, unlabelled=True, unlabelled_labels=True, strong=strong)

    def step(self, step: int, micro_batches: Sequence[Batch]) -> None:
        """Train the student, and a critic beside it, on one batch; then the teacher follows."""
        if self._follower and step == 0:
            # The student may have taken start weights.
            self._follower.follow(0)
        for learner in self._learners:
            learner.begin()
        # What all workers have to tell each other of the batch itself goes in one message.
        counts = self._world.denominator(torch.stack([self._pixels(batch) for batch in micro_batches]))
        for number, (batch, pixels) in enumerate(zip(micro_batches, counts, strict=True), 1):
            learn = partial(self._learn_from, 1 / len(micro_batches), number == len(micro_batches))
            self.meter.count(self._run(learn, batch, pixels, None), step)
        with phase("optimizers"):
            for learner in self._learners:
                learner.update(step)
        if self._follower:
            self._follower.follow(step)

    def _pixels(self, batch: Batch) -> Tensor:
        """How many pixels of a micro-batch are known, real, and valid in each mixed view, by this worker."""
        assert batch.unlabelled_valid is not None
        known = (batch.labels != self._ignore_index).sum()
        real = known if batch.real_labels is None else (batch.real_labels != self._ignore_index).sum()
        valid = [mixed(batch.unlabelled_valid, batch.partners, boxed).sum() for boxed in self._boxed(batch)]
        return torch.stack([known, real, *valid])

    def _boxed(self, batch: Batch) -> list[Tensor]:
        """Of each view, which pixels show the partner: bool [N, H, W]."""
        assert batch.boxes is not None
        return [inside(boxes, *batch.labels.shape[1:]) for boxes in batch.boxes]

    def _learn_from(self, weight: float, last: bool, batch: Batch, pixels: Tensor) -> Found:
        """Gather the gradients of one micro-batch, which is the step's last or not."""
        found = Found()
        known, real, *valid = pixels
        views = self._views(batch, found)
        if self._joint_forward:
            both = self._logits(torch.cat([views.images, batch.images]), batch.channels)
            unlabelled, labelled = both.split([len(views.images), len(batch.images)])
            unlabelled_loss = self._unlabelled_phase(views, unlabelled, valid, found)
            labelled_loss = self._labelled_phase(batch, labelled, known, weight, found)
            self._segment.learn_from(_HALF * weight * (unlabelled_loss + labelled_loss))
        else:
            unlabelled = self._logits(views.images, batch.channels)
            self._segment.learn_from(_HALF * weight * self._unlabelled_phase(views, unlabelled, valid, found))
            del unlabelled
            labelled = self._segment(batch.images)
            self._segment.learn_from(_HALF * weight * self._labelled_phase(batch, labelled, known, weight, found))
        if last:
            # Goes on while the critic learns.
            self._segment.share()
        if self._critic:
            assert batch.real_labels is not None
            called_real = self._critic.calls_real(batch.real_labels, batch.images, real, weight)
            found.losses["loss/d"] = found.losses["loss/d"] + called_real
        return found

    def _views(self, batch: Batch, found: Found) -> _Views:
        """Strong views with boxes of their partners, and what the teacher is sure of there."""
        assert batch.unlabelled is not None and batch.unlabelled_valid is not None
        assert batch.strong is not None and batch.unlabelled_labels is not None
        classes, confidence = self._teacher.labels(batch.unlabelled)
        sure = (confidence >= self.settings.threshold) & batch.unlabelled_valid
        own = slice(len(batch.unlabelled_labels))
        weak = classes[own], sure[own], batch.unlabelled_valid[own]
        found.ratios.update(selected_ratios(*weak, batch.unlabelled_labels, self._ignore_index))
        boxed = self._boxed(batch)
        return _Views(
            images=torch.cat(
                [mixed(view, batch.partners, each) for view, each in zip(batch.strong, boxed, strict=True)]
            ),
            labels=torch.cat([mixed(classes, batch.partners, each) for each in boxed]),
            selected=torch.cat([mixed(sure, batch.partners, each) for each in boxed]),
        )

    def _logits(self, images: Tensor, channels: Tensor | None) -> Tensor:
        """The student's of images of which the first are both views of those of the keys, if channels are dropped."""
        if not self.settings.feature_dropout:
            return self._segment(images)
        assert channels is not None
        keys = F.pad(channels.repeat(2), (0, len(images) - 2 * len(channels)), value=-1)
        other = torch.arange(len(images), device=images.device) >= len(channels)
        return self._segment(images, partial(feature_dropout.forward, self.student, keys, other))

    def _unlabelled_phase(self, views: _Views, logits: Tensor, valid: Sequence[Tensor], found: Found) -> Tensor:
        """Student: match, in each strong view, what the teacher is sure of in the weak one."""
        parts = (maps.chunk(len(valid)) for maps in (logits, views.labels, views.selected))
        losses = [pseudo_label_loss_sum(*part) / count for *part, count in zip(*parts, valid, strict=True)]
        loss = torch.stack(losses).mean()
        found.losses["loss/semi"] = loss.detach()
        return self.settings.lambda_semi * loss

    def _labelled_phase(self, batch: Batch, logits: Tensor, known: Tensor, weight: float, found: Found) -> Tensor:
        """Student: match the masks, and look real on labelled images. Critic: call its predictions fake."""
        loss = self.labelled_loss(logits, batch.labels, known)
        found.losses["loss/ce"] = loss.detach()
        if not self._critic:
            return loss
        mask = batch.labels != self._ignore_index
        d_logits = self._critic(logits.softmax(1), mask)
        found.losses["loss/d"] = self._critic.calls_fake(d_logits, mask, known, weight)
        adversarial = adversarial_loss_sum(d_logits, True, mask) / known
        found.losses["loss/adv"] = adversarial.detach()
        return loss + self.settings.lambda_adv * adversarial

    def rates(self, step: int) -> dict[str, float]:
        """Of the student, and of a critic."""
        return {learner.name: learner.rate(step) for learner in self._learners}

    def maps(self, probabilities: Tensor) -> dict[str, Tensor]:
        """The teacher's `confidence`, and the pixels `selected` were they unlabelled."""
        confidence = probabilities.amax(1)
        return {"confidence": confidence, "selected": confidence >= self.settings.threshold}

    def symptoms(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """A critic that has won."""
        return won(metrics)

    def export(self, path: Path, card: Card) -> None:
        """Write the teacher, and a critic."""
        if self._critic:
            card = replace(card, discriminator=self.settings.discriminator)
        export(path, card, self.segmenter, self._critic and self._critic.learner.network)

    def state_dict(self) -> dict[str, Any]:
        """The student and a critic with their optimizers, and a teacher that follows."""
        state = {learner.name: learner.state_dict() for learner in self._learners}
        state |= self.labelled_loss.state_dict()
        if self._follower:
            state["teacher"] = {"network": self._follower.network.state_dict()}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave."""
        for learner in self._learners:
            learner.load_state_dict(state[learner.name])
        self.labelled_loss.load_state_dict(state)
        if self._follower:
            self._follower.network.load_state_dict(state["teacher"]["network"])
