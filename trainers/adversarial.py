"""The training step of Hung et al. (2018), one method a phase.

    L = L_ce + lambda_adv * L_adv + lambda_semi_adv * L_adv(unlabelled) + lambda_semi * L_semi

Each phase says by `backward(inputs=...)` which network it may change. Every mean is over the
*global* batch: a worker divides its own sum by the count of all workers, and gradients are summed.
A batch that is accumulated in parts has the mean of the parts' means, as published. Nothing here
waits for the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ..models.architectures import Segmenter
from ..models.discriminator import Discriminator
from ..models.settings import Interval, Settings
from .distributed import World
from .losses import authenticity_sum, confident_pixels, cross_entropy_sum, one_hot, self_taught_sum
from .meter import Meter
from .optimizers import AdamSettings, OptimizerSettings, SGDSettings, build_optimizer, set_rate
from .schedules import poly


@dataclass(frozen=True, kw_only=True)
class MethodSettings(Settings):
    """The method's knobs and the optimizers. With every lambda at 0 it is plain supervised training."""

    steps: Annotated[int, Interval(1)]
    lambda_adv: Annotated[float, Interval(0)] = 0.01
    """Weight of the adversarial loss on labelled images."""
    lambda_semi_adv: Annotated[float, Interval(0)] = 0.001
    """Weight of the adversarial loss on unlabelled images."""
    lambda_semi: Annotated[float, Interval(0)] = 0.1
    """Weight of the self-taught loss on confident unlabelled pixels."""
    threshold: Annotated[float, Interval(0, 1)] = 0.2
    """Confidence of the discriminator, as a probability, from which an unlabelled pixel is learnt from."""
    semi_start: Annotated[int, Interval(0)] = 5000
    """First step, counted from 0, with the self-taught loss: the discriminator needs a warm-up."""
    semi_adv_start: Annotated[int, Interval(0)] = 0
    """First step, counted from 0, with the adversarial loss on unlabelled images."""
    discriminator_sees_unlabelled: bool = True
    """Whether predictions on unlabelled images are fakes to the discriminator too (released code: yes, paper: no)."""
    segmenter_optimizer: OptimizerSettings = SGDSettings()
    body_lr_factor: Annotated[float, Interval(0, open_low=True)] = 1.0
    """Learning rate of the segmenter's body, as a multiple of the optimizer's."""
    head_lr_factor: Annotated[float, Interval(0, open_low=True)] = 10.0
    """Learning rate of the segmenter's classifier, as a multiple of the optimizer's."""
    discriminator_optimizer: OptimizerSettings = AdamSettings()
    power: Annotated[float, Interval(0)] = 0.9
    """Exponent of the poly schedule of both rates."""
    max_gradient_norm: Annotated[float, Interval(0, open_low=True)] | None = None
    """Greatest 2-norm of each network's gradient, which is scaled down to it; none by default, as published."""

    @property
    def uses_unlabelled(self) -> bool:
        """Whether any loss looks at unlabelled images."""
        return self.lambda_semi > 0 or self.lambda_semi_adv > 0

    @property
    def uses_discriminator(self) -> bool:
        """Whether any loss asks the discriminator."""
        return self.lambda_adv > 0 or self.uses_unlabelled

    def uses_unlabelled_at(self, step: int) -> bool:
        """Whether a step looks at unlabelled images: for the segmenter's sake, or for the discriminator's."""
        learns = self.semi_adv_weight(step) > 0 or self.semi_weight(step) > 0
        return learns or (self.uses_unlabelled and self.discriminator_sees_unlabelled)

    def semi_adv_weight(self, step: int) -> float:
        """Weight of the adversarial loss on unlabelled images at a step."""
        return self.lambda_semi_adv if step >= self.semi_adv_start else 0.0

    def semi_weight(self, step: int) -> float:
        """Weight of the self-taught loss at a step."""
        return self.lambda_semi if step >= self.semi_start else 0.0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's share of a global batch. Images are normalised [N, 3, H, W], maps are [N, H, W]."""

    images: Tensor
    labels: Tensor
    real_labels: Tensor | None = None
    """Ground truth shown to the discriminator as real, int64; drawn independently of `labels`."""
    unlabelled: Tensor | None = None
    unlabelled_valid: Tensor | None = None
    """bool, False on padding."""
    unlabelled_labels: Tensor | None = None
    """int64, ignore index where unknown; only measures how right the selected pixels are."""


class AdversarialTrainer:
    """Both networks, both optimizers, and the step that changes them.

    `discriminator` is None exactly if the settings do not use one.
    """

    def __init__(
        self,
        settings: MethodSettings,
        segmenter: Segmenter,
        discriminator: Discriminator | None,
        *,
        ignore_index: int,
        world: World,
    ) -> None:
        assert (discriminator is not None) == settings.uses_discriminator
        self.settings = settings
        self.segmenter = segmenter.train()
        self.discriminator = discriminator
        self.world = world
        self.meter = Meter(world)
        self._ignore_index = ignore_index
        head = {id(p) for p in segmenter.head()}
        learning = [p for p in segmenter.parameters() if p.requires_grad]
        self._segmenter_parameters = learning
        self.segmenter_optimizer = build_optimizer(
            settings.segmenter_optimizer,
            [
                {"params": [p for p in learning if id(p) not in head], "scale": settings.body_lr_factor},
                {"params": [p for p in learning if id(p) in head], "scale": settings.head_lr_factor},
            ],
        )
        self._discriminator_parameters = list(discriminator.parameters()) if discriminator else []
        self.discriminator_optimizer = (
            build_optimizer(
                settings.discriminator_optimizer, [{"params": self._discriminator_parameters, "scale": 1.0}]
            )
            if discriminator
            else None
        )

    def rates(self, step: int) -> dict[str, float]:
        """Base learning rates at a step, by network."""
        factor = poly(step, self.settings.steps, self.settings.power)
        rates = {"segmenter": self.settings.segmenter_optimizer.lr * factor}
        if self.discriminator:
            rates["discriminator"] = self.settings.discriminator_optimizer.lr * factor
        return rates

    def step(self, step: int, parts: Sequence[Batch]) -> None:
        """Train both networks on one batch, whose parts go through them one after another to save memory.

        Both gradients are complete before either network changes.
        """
        rates = self.rates(step)
        self.segmenter_optimizer.zero_grad()
        if self.discriminator_optimizer:
            self.discriminator_optimizer.zero_grad()
        weight = 1 / len(parts)
        for part in parts:
            predictions = []
            if self.settings.uses_unlabelled_at(step):
                predictions.append(self._unlabelled_phase(step, part, weight))
            predictions.append(self._labelled_phase(step, part, weight))
            if self.discriminator:
                self._discriminator_phase(step, part, predictions, weight)
        self._finish_gradients("segmenter", self._segmenter_parameters, step)
        set_rate(self.segmenter_optimizer, rates["segmenter"])
        self.segmenter_optimizer.step()
        if self.discriminator_optimizer:
            self._finish_gradients("discriminator", self._discriminator_parameters, step)
            set_rate(self.discriminator_optimizer, rates["discriminator"])
            self.discriminator_optimizer.step()

    def _unlabelled_phase(self, step: int, batch: Batch, weight: float) -> tuple[Tensor, Tensor]:
        """Segmenter: look real on unlabelled images, and agree with itself where the discriminator trusts it."""
        s, valid = self.settings, batch.unlabelled_valid
        assert self.discriminator and batch.unlabelled is not None and valid is not None
        logits = self.segmenter(batch.unlabelled)
        probabilities = logits.softmax(1)
        d_logits = self.discriminator(probabilities)
        pixels = self._total(valid.sum())
        adversarial = authenticity_sum(d_logits, True, valid) / pixels
        self.meter.add_watched("loss/semi_adv", adversarial, step)
        terms = []
        if semi_adv_weight := s.semi_adv_weight(step):
            terms.append(semi_adv_weight * adversarial)
        if semi_weight := s.semi_weight(step):
            selected = confident_pixels(d_logits, s.threshold, valid)
            self_taught = self_taught_sum(logits, selected) / self._total(selected.sum())
            self.meter.add_watched("loss/semi", self_taught, step)
            terms.append(semi_weight * self_taught)
            self._measure_selection(logits, selected, batch)
        if terms:
            (weight * torch.stack(terms).sum()).backward(inputs=self._segmenter_parameters)
        return probabilities.detach(), valid

    def _labelled_phase(self, step: int, batch: Batch, weight: float) -> tuple[Tensor, Tensor]:
        """Segmenter: match the masks, and look real on labelled images."""
        known = batch.labels != self._ignore_index
        pixels = self._total(known.sum())
        logits = self.segmenter(batch.images)
        loss = cross_entropy_sum(logits, batch.labels, self._ignore_index) / pixels
        self.meter.add_watched("loss/ce", loss, step)
        probabilities = logits.softmax(1)
        if self.settings.lambda_adv > 0:
            assert self.discriminator
            adversarial = authenticity_sum(self.discriminator(probabilities), True, known) / pixels
            self.meter.add_watched("loss/adv", adversarial, step)
            loss = loss + self.settings.lambda_adv * adversarial
        (weight * loss).backward(inputs=self._segmenter_parameters)
        return probabilities.detach(), known

    def _discriminator_phase(
        self, step: int, batch: Batch, predictions: list[tuple[Tensor, Tensor]], weight: float
    ) -> None:
        """Discriminator: call predictions (made before the update) fake and one-hot ground truth real."""
        assert self.discriminator and batch.real_labels is not None
        labelled = predictions[-1]
        fakes = predictions if self.settings.discriminator_sees_unlabelled else [labelled]
        classes = labelled[0].shape[1]
        real = one_hot(batch.real_labels, classes, self._ignore_index, labelled[0].dtype)
        real_mask = batch.real_labels != self._ignore_index
        fake_mask = torch.cat([mask for _, mask in fakes])
        d_logits = self.discriminator(torch.cat([*(p for p, _ in fakes), real]))
        d_fake, d_real = d_logits.split([len(fake_mask), len(real_mask)])
        fake_loss = authenticity_sum(d_fake, False, fake_mask) / self._total(fake_mask.sum())
        real_loss = authenticity_sum(d_real, True, real_mask) / self._total(real_mask.sum())
        loss = 0.5 * fake_loss + 0.5 * real_loss
        self.meter.add_watched("loss/d", loss, step)
        (weight * loss).backward(inputs=self._discriminator_parameters)

    def _total(self, count: Tensor) -> Tensor:
        """A pixel count over all workers, at least 1, so that an empty mean is 0 and never NaN."""
        return self.world.total(count).clamp(min=1)

    def _measure_selection(self, logits: Tensor, selected: Tensor, batch: Batch) -> None:
        truth, valid = batch.unlabelled_labels, batch.unlabelled_valid
        assert truth is not None and valid is not None
        self.meter.add("selected/share", selected.sum(), valid.sum())
        judged = selected & (truth != self._ignore_index)
        correct = judged & (logits.detach().argmax(1) == truth)
        self.meter.add("selected/accuracy", correct.sum(), judged.sum())

    def _finish_gradients(self, name: str, parameters: Sequence[Tensor], step: int) -> None:
        self.world.total_gradients(parameters)
        norm = get_total_norm(p.grad for p in parameters if p.grad is not None)
        if self.settings.max_gradient_norm is not None:
            clip_grads_with_norm_(parameters, self.settings.max_gradient_norm, norm)
        self.meter.add_watched(f"gradient_norm/{name}", norm / self.world.size, step)

    def state_dict(self) -> dict[str, Any]:
        """All that resumes except the step: both networks and both optimizers."""
        state = {
            "segmenter": self.segmenter.state_dict(),
            "segmenter_optimizer": self.segmenter_optimizer.state_dict(),
        }
        if self.discriminator and self.discriminator_optimizer:
            state["discriminator"] = self.discriminator.state_dict()
            state["discriminator_optimizer"] = self.discriminator_optimizer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave."""
        self.segmenter.load_state_dict(state["segmenter"])
        _restore(self.segmenter_optimizer, state["segmenter_optimizer"])
        if self.discriminator and self.discriminator_optimizer:
            self.discriminator.load_state_dict(state["discriminator"])
            _restore(self.discriminator_optimizer, state["discriminator_optimizer"])


def _restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up an optimizer's state that went through JSON, which turns the numbers of its parameters into text.

    Torch silently ignores the state of parameters that it does not find.
    """
    by_number = {int(number): values for number, values in state["state"].items()}
    optimizer.load_state_dict({**state, "state": by_number})
