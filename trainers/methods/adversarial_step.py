"""The training step of Hung et al. (2018), phase by phase.

    L = L_ce + lambda_adv * L_adv + lambda_semi_adv * L_adv(unlabelled) + lambda_semi * L_semi

Each phase says which network learns from it, and may change no other. The discriminator sees each
prediction once: what it says of it serves its own loss and the segmenter's. Every mean is over the *global*
batch: a worker divides its own sum by the count of all workers, and gradients are summed. A batch that is
accumulated in micro-batches has the mean of their means, as published. Nothing here waits for the device.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...models.bundle import Card
from ...models.discriminator import Discriminator
from ...models.segmenter import Segmenter
from ..distributed import World
from ..export import export
from ..labelled_loss import LabelledLoss
from ..learner import segmenter_learner
from ..losses import adversarial_loss_sum, argmax, confident_pixels, pseudo_label_loss_sum
from ..meter import Found, Meter
from ..profiling import phase
from ..replay import runner
from ..settings import TrainerSettings
from .adversarial import AdversarialSettings
from .critic import Critic, won
from .method import Batch, Wants
from .selected import selected_ratios


@dataclass(kw_only=True)
class _MicroBatch:
    """A micro-batch on its way through the networks."""

    batch: Batch
    step: int
    weight: float
    """Of its losses in those of the step."""
    known: Tensor
    """How many pixels of labelled images have a label; these four are over all workers, and at least 1."""
    valid: Tensor
    """How many pixels of unlabelled images are no padding."""
    fake: Tensor
    """How many pixels the discriminator is to call fake."""
    real: Tensor
    """How many pixels it is to call real."""
    found: Found = field(default_factory=Found)
    """Figures so far."""
    d_losses: list[Tensor] = field(default_factory=list)
    """The terms of L_D so far."""


class Adversarial:
    """A segmenter and a discriminator, and the step that changes them. The settings use a discriminator."""

    def __init__(
        self,
        settings: AdversarialSettings,
        trainer: TrainerSettings,
        segmenter: Segmenter,
        discriminator: Discriminator,
        *,
        ignore_index: int,
        world: World,
    ) -> None:
        assert settings.uses_discriminator
        self.settings = settings
        self.meter = Meter(world)
        self.labelled_loss = LabelledLoss(trainer, segmenter, ignore_index=ignore_index, world=world)
        self._segment = segmenter_learner(segmenter, trainer, self.meter)
        self._critic = Critic(
            discriminator,
            settings.discriminator_optimizer,
            trainer,
            self.meter,
            ignore_index=ignore_index,
            sees_void=settings.discriminator_sees_void,
        )
        self.segmenter = self.student = self._segment.network
        self.discriminator = self._critic.learner.network
        self._learners = (self._segment, self._critic.learner)
        self._joint_forward = trainer.speed.joint_forward
        self._run = runner(trainer.speed)
        self._ignore_index = ignore_index
        self._world = world

    def wants(self, step: int) -> Wants:
        """Ground truth for the discriminator, unlabelled images once a loss looks at them, truth for pseudo-labels."""
        s = self.settings
        measured = s.semi_weight(step) > 0
        return Wants(real=True, unlabelled=s.uses_unlabelled_at(step), unlabelled_labels=measured)

    def step(self, step: int, micro_batches: Sequence[Batch]) -> None:
        """Train both networks on one batch. Both gradients are complete before either network changes."""
        s = self.settings
        way = s.uses_unlabelled_at(step), s.semi_adv_weight(step), s.semi_weight(step)
        for learner in self._learners:
            learner.begin()
        # What all workers have to tell each other of the batch itself goes in one message.
        counts = self._world.denominator(torch.stack([self._pixels(step, batch) for batch in micro_batches]))
        for number, (batch, pixels) in enumerate(zip(micro_batches, counts, strict=True), 1):
            learn = partial(self._learn_from, step, 1 / len(micro_batches), number == len(micro_batches))
            self.meter.count(self._run(learn, batch, pixels, way), step)
        with phase("optimizers"):
            for learner in self._learners:
                learner.update(step)

    def _pixels(self, step: int, batch: Batch) -> Tensor:
        """How many pixels of a micro-batch are known, valid, to be called fake, and real, by this worker."""
        assert batch.real_labels is not None
        known, real = ((labels != self._ignore_index).sum() for labels in (batch.labels, batch.real_labels))
        valid = batch.unlabelled_valid.sum() if batch.unlabelled_valid is not None else torch.zeros_like(known)
        seen = self.settings.discriminator_sees_unlabelled and self.settings.uses_unlabelled_at(step)
        return torch.stack([known, valid, known + valid if seen else known, real])

    def _learn_from(self, step: int, weight: float, last: bool, batch: Batch, pixels: Tensor) -> Found:
        """Gather both networks' gradients of one micro-batch, which is the step's last or not."""
        known, valid, fake, real = pixels
        micro = _MicroBatch(batch=batch, step=step, weight=weight, known=known, valid=valid, fake=fake, real=real)
        looks = self.settings.uses_unlabelled_at(step)
        if looks and self._joint_forward:
            assert batch.unlabelled is not None
            both = self._segment(torch.cat([batch.unlabelled, batch.images]))
            unlabelled, labelled = both.split([len(batch.unlabelled), len(batch.images)])
            terms = self._unlabelled_phase(micro, unlabelled) + self._labelled_phase(micro, labelled)
            self._segmenter_learns(micro, terms)
        else:
            if looks:
                assert batch.unlabelled is not None
                with torch.set_grad_enabled(self.settings.learns_from_unlabelled_at(micro.step)):
                    unlabelled = self._segment(batch.unlabelled)
                self._segmenter_learns(micro, self._unlabelled_phase(micro, unlabelled))
                del unlabelled
            self._segmenter_learns(micro, self._labelled_phase(micro, self._segment(batch.images)))
        if last:
            # Goes on while the discriminator learns.
            self._segment.share()
        assert batch.real_labels is not None
        micro.d_losses.append(self._critic.calls_real(batch.real_labels, batch.images, micro.real, micro.weight))
        micro.found.losses["loss/d"] = torch.stack(micro.d_losses).sum()
        return micro.found

    def _unlabelled_phase(self, micro: _MicroBatch, logits: Tensor) -> list[Tensor]:
        """Segmenter: look real on unlabelled images, and match pseudo-labels where the discriminator trusts them."""
        s, step, valid = self.settings, micro.step, micro.batch.unlabelled_valid
        assert valid is not None
        d_logits = self._critic(logits.softmax(1), valid)
        if s.discriminator_sees_unlabelled:
            micro.d_losses.append(self._critic.calls_fake(d_logits, valid, micro.fake, micro.weight))
        adversarial = adversarial_loss_sum(d_logits, True, valid) / micro.valid
        micro.found.losses["loss/semi_adv"] = adversarial.detach()
        terms = []
        if semi_adv_weight := s.semi_adv_weight(step):
            terms.append(semi_adv_weight * adversarial)
        if semi_weight := s.semi_weight(step):
            pseudo_labels = argmax(logits.detach())
            selected = confident_pixels(d_logits, s.threshold, valid)
            semi = pseudo_label_loss_sum(logits, pseudo_labels, selected) / self._world.denominator(selected.sum())
            micro.found.losses["loss/semi"] = semi.detach()
            terms.append(semi_weight * semi)
            truth = micro.batch.unlabelled_labels
            assert truth is not None
            micro.found.ratios.update(selected_ratios(pseudo_labels, selected, valid, truth, self._ignore_index))
        return terms

    def _labelled_phase(self, micro: _MicroBatch, logits: Tensor) -> list[Tensor]:
        """Segmenter: match the masks, and look real on labelled images."""
        labels = micro.batch.labels
        known = labels != self._ignore_index
        loss = self.labelled_loss(logits, labels, micro.known)
        micro.found.losses["loss/ce"] = loss.detach()
        terms = [loss]
        d_logits = self._critic(logits.softmax(1), known)
        micro.d_losses.append(self._critic.calls_fake(d_logits, known, micro.fake, micro.weight))
        if self.settings.lambda_adv > 0:
            adversarial = adversarial_loss_sum(d_logits, True, known) / micro.known
            micro.found.losses["loss/adv"] = adversarial.detach()
            terms.append(self.settings.lambda_adv * adversarial)
        return terms

    def _segmenter_learns(self, micro: _MicroBatch, terms: list[Tensor]) -> None:
        if terms:
            self._segment.learn_from(micro.weight * torch.stack(terms).sum())

    def rates(self, step: int) -> dict[str, float]:
        """Of both networks."""
        return {learner.name: learner.rate(step) for learner in self._learners}

    def maps(self, probabilities: Tensor) -> dict[str, Tensor]:
        """The discriminator's `confidence`, and the pixels `selected` were they unlabelled."""
        d_logits = self._critic.learner(probabilities)
        maps = {"confidence": d_logits.sigmoid().squeeze(1)}
        if self.settings.lambda_semi > 0:
            everywhere = torch.ones_like(maps["confidence"], dtype=torch.bool)
            maps["selected"] = confident_pixels(d_logits, self.settings.threshold, everywhere)
        return maps

    def symptoms(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """A discriminator that has won."""
        return won(metrics)

    def export(self, path: Path, card: Card) -> None:
        """Write both networks."""
        export(path, replace(card, discriminator=self.settings.discriminator), self.segmenter, self.discriminator)

    def state_dict(self) -> dict[str, Any]:
        """Both networks, both optimizers, and balanced weights."""
        learners = {learner.name: learner.state_dict() for learner in self._learners}
        return {**learners, **self.labelled_loss.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave."""
        for learner in self._learners:
            learner.load_state_dict(state[learner.name])
        self.labelled_loss.load_state_dict(state)
