"""The training step of Hung et al. (2018), one method a phase.

    L = L_ce + lambda_adv * L_adv + lambda_semi_adv * L_adv(unlabelled) + lambda_semi * L_semi

Each phase says by `backward(inputs=...)` which network it may change. The discriminator sees each
prediction once: what it says of it serves its own loss and the segmenter's. Every mean is over the *global*
batch: a worker divides its own sum by the count of all workers, and gradients are summed. A batch that is
accumulated in parts has the mean of the parts' means, as published. Nothing here waits for the device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ..models.architectures import Segmenter
from ..models.discriminator import Discriminator
from ..models.settings import Interval, Settings
from .distributed import World
from .losses import adversarial_loss_sum, argmax, confident_pixels, cross_entropy_sum, one_hot, pseudo_label_loss_sum
from .meter import Meter
from .optimizers import AdamSettings, OptimizerSettings, SGDSettings, build_optimizer, poly, set_rate
from .profiling import phase
from .speed import SpeedSettings, compiled, recompute


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
        return self.learns_from_unlabelled_at(step) or (self.uses_unlabelled and self.discriminator_sees_unlabelled)

    def learns_from_unlabelled_at(self, step: int) -> bool:
        """Whether the segmenter learns from unlabelled images in a step."""
        return self.semi_adv_weight(step) > 0 or self.semi_weight(step) > 0

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


@dataclass(kw_only=True)
class _Part:
    """A part of a batch on its way through the networks."""

    batch: Batch
    step: int
    weight: float
    """Of its losses in those of the step."""
    fake_pixels: Tensor | None
    """How many pixels the discriminator, if there is one, is to call fake, over all workers."""
    d_losses: list[Tensor] = field(default_factory=list)
    """The terms of L_D so far."""


class AdversarialTrainer:
    """Both networks, both optimizers, and the step that changes them.

    `discriminator` is None exactly if the settings do not use one. The networks are brought into the
    memory format that `speed` asks for.
    """

    def __init__(
        self,
        settings: MethodSettings,
        segmenter: Segmenter,
        discriminator: Discriminator | None,
        *,
        ignore_index: int,
        world: World,
        speed: SpeedSettings = SpeedSettings(),
    ) -> None:
        assert (discriminator is not None) == settings.uses_discriminator
        self.settings = settings
        self.segmenter = speed.arrange(segmenter.train())
        self.discriminator = speed.arrange(discriminator) if discriminator else None
        self.world = world
        self.meter = Meter(world)
        self._ignore_index = ignore_index
        self._speed = speed
        if speed.recompute:
            recompute(segmenter.blocks())
        device = next(segmenter.parameters()).device
        self._forward = compiled(segmenter, device) if speed.compile else segmenter
        head = {id(p) for p in segmenter.head()}
        learning = [p for p in segmenter.parameters() if p.requires_grad]
        self._segmenter_parameters = learning
        self.segmenter_optimizer = build_optimizer(
            settings.segmenter_optimizer,
            [
                {"params": [p for p in learning if id(p) not in head], "scale": settings.body_lr_factor},
                {"params": [p for p in learning if id(p) in head], "scale": settings.head_lr_factor},
            ],
            fused=speed.fused_optimizers,
        )
        self._discriminator_parameters = list(discriminator.parameters()) if discriminator else []
        self.discriminator_optimizer = (
            build_optimizer(
                settings.discriminator_optimizer,
                [{"params": self._discriminator_parameters, "scale": 1.0}],
                fused=speed.fused_optimizers,
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
        for part in parts:
            fakes = self._fake_pixels(step, part) if self.discriminator else None
            self._learn_from(_Part(batch=part, step=step, weight=1 / len(parts), fake_pixels=fakes))
        with phase("optimizers"):
            self._finish_gradients("segmenter", self._segmenter_parameters, step)
            set_rate(self.segmenter_optimizer, rates["segmenter"])
            self.segmenter_optimizer.step()
            if self.discriminator_optimizer:
                self._finish_gradients("discriminator", self._discriminator_parameters, step)
                set_rate(self.discriminator_optimizer, rates["discriminator"])
                self.discriminator_optimizer.step()

    def _learn_from(self, part: _Part) -> None:
        """Gather both networks' gradients of one part of the batch."""
        batch, looks = part.batch, self.settings.uses_unlabelled_at(part.step)
        if looks and self._speed.joint_forward:
            assert batch.unlabelled is not None
            both = self._segment(torch.cat([batch.unlabelled, batch.images]))
            unlabelled, labelled = both.split([len(batch.unlabelled), len(batch.images)])
            terms = self._unlabelled_phase(part, unlabelled) + self._labelled_phase(part, labelled)
            self._segmenter_learns(part, terms)
        else:
            if looks:
                assert batch.unlabelled is not None
                with torch.set_grad_enabled(self.settings.learns_from_unlabelled_at(part.step)):
                    unlabelled = self._segment(batch.unlabelled)
                self._segmenter_learns(part, self._unlabelled_phase(part, unlabelled))
                del unlabelled
            self._segmenter_learns(part, self._labelled_phase(part, self._segment(batch.images)))
        if self.discriminator:
            self._real_phase(part)
            self.meter.add_watched("loss/d", torch.stack(part.d_losses).sum(), part.step)

    def _unlabelled_phase(self, part: _Part, logits: Tensor) -> list[Tensor]:
        """Segmenter: look real on unlabelled images, and agree with itself where the discriminator trusts it."""
        s, step, valid = self.settings, part.step, part.batch.unlabelled_valid
        assert valid is not None
        d_logits = self._judge(logits.softmax(1))
        if s.discriminator_sees_unlabelled:
            self._fake_phase(part, d_logits, valid)
        adversarial = adversarial_loss_sum(d_logits, True, valid) / self._total(valid.sum())
        self.meter.add_watched("loss/semi_adv", adversarial, step)
        terms = []
        if semi_adv_weight := s.semi_adv_weight(step):
            terms.append(semi_adv_weight * adversarial)
        if semi_weight := s.semi_weight(step):
            own = argmax(logits.detach())
            selected = confident_pixels(d_logits, s.threshold, valid)
            self_taught = pseudo_label_loss_sum(logits, own, selected) / self._total(selected.sum())
            self.meter.add_watched("loss/semi", self_taught, step)
            terms.append(semi_weight * self_taught)
            self._measure_selection(own, selected, part.batch)
        return terms

    def _labelled_phase(self, part: _Part, logits: Tensor) -> list[Tensor]:
        """Segmenter: match the masks, and look real on labelled images."""
        labels = part.batch.labels
        known = labels != self._ignore_index
        pixels = self._total(known.sum())
        loss = cross_entropy_sum(logits, labels, self._ignore_index) / pixels
        self.meter.add_watched("loss/ce", loss, part.step)
        terms = [loss]
        if self.discriminator:
            d_logits = self._judge(logits.softmax(1))
            self._fake_phase(part, d_logits, known)
            if self.settings.lambda_adv > 0:
                adversarial = adversarial_loss_sum(d_logits, True, known) / pixels
                self.meter.add_watched("loss/adv", adversarial, part.step)
                terms.append(self.settings.lambda_adv * adversarial)
        return terms

    def _fake_phase(self, part: _Part, d_logits: Tensor, mask: Tensor) -> None:
        """Discriminator: call predictions, made before the update, fake."""
        assert part.fake_pixels is not None
        loss = 0.5 * adversarial_loss_sum(d_logits, False, mask) / part.fake_pixels
        # The segmenter goes on from the same logits: what leads to them is kept for it.
        self._discriminator_learns(part, loss, retain_graph=True)

    def _real_phase(self, part: _Part) -> None:
        """Discriminator: call one-hot ground truth real."""
        labels = part.batch.real_labels
        assert labels is not None and self.discriminator
        mask = labels != self._ignore_index
        truth = one_hot(labels, self.discriminator.classes, self._ignore_index, part.batch.images.dtype)
        d_logits = self._judge(truth)
        self._discriminator_learns(part, 0.5 * adversarial_loss_sum(d_logits, True, mask) / self._total(mask.sum()))

    def _segment(self, images: Tensor) -> Tensor:
        """Logits of images, in the precision of the weights."""
        with phase("segmenter forward"), self._speed.precision(images.device):
            return self._forward(images)

    def _judge(self, maps: Tensor) -> Tensor:
        """The discriminator's logits of class probabilities or one-hot maps."""
        assert self.discriminator
        with phase("discriminator forward"), self._speed.precision(maps.device):
            return self.discriminator(maps.contiguous(memory_format=self._speed.memory_format))

    def _segmenter_learns(self, part: _Part, terms: list[Tensor]) -> None:
        if terms:
            with phase("segmenter backward"):
                (part.weight * torch.stack(terms).sum()).backward(inputs=self._segmenter_parameters)

    def _discriminator_learns(self, part: _Part, loss: Tensor, *, retain_graph: bool = False) -> None:
        part.d_losses.append(loss.detach())
        with phase("discriminator backward"):
            (part.weight * loss).backward(inputs=self._discriminator_parameters, retain_graph=retain_graph)

    def _fake_pixels(self, step: int, batch: Batch) -> Tensor:
        """How many pixels of a part the discriminator is to call fake in a step, over all workers."""
        pixels = (batch.labels != self._ignore_index).sum()
        if self.settings.discriminator_sees_unlabelled and self.settings.uses_unlabelled_at(step):
            assert batch.unlabelled_valid is not None
            pixels = pixels + batch.unlabelled_valid.sum()
        return self._total(pixels)

    def _total(self, count: Tensor) -> Tensor:
        """A pixel count over all workers, at least 1, so that an empty mean is 0 and never NaN."""
        return self.world.total(count).clamp(min=1)

    def _measure_selection(self, own: Tensor, selected: Tensor, batch: Batch) -> None:
        truth, valid = batch.unlabelled_labels, batch.unlabelled_valid
        assert truth is not None and valid is not None
        self.meter.add("selected/share", selected.sum(), valid.sum())
        judged = selected & (truth != self._ignore_index)
        correct = judged & (own == truth)
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
    # Whether an optimizer is fused is ours to say, not the checkpoint's.
    groups = [
        {**saved, **{key: group[key] for key in ("fused", "foreach")}}
        for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"param_groups": groups, "state": by_number})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # Fused optimizers walk through memory and take all tensors to lie as the parameter does.
                values[name] = torch.empty_like(parameter).copy_(value)
