"""The method's step as one would write it down in PyTorch, without a thought to speed: what ours is held against."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advseg.trainers.methods.adversarial import AdversarialSettings
from advseg.trainers.methods.method import Batch
from advseg.trainers.optimizers import OptimizerSettings


class PlainStep:
    """Both networks under AdamW and Adam, one image batch after the other, one loss after the other."""

    def __init__(
        self,
        method: AdversarialSettings,
        optimizer: OptimizerSettings,
        segmenter: nn.Module,
        discriminator: nn.Module,
        *,
        ignored: int,
    ) -> None:
        """`optimizer` is the segmenter's."""
        s, d = optimizer, method.discriminator_optimizer
        self.method, self.segmenter, self.discriminator, self.ignored = method, segmenter, discriminator, ignored
        self.optimizer = torch.optim.AdamW(segmenter.parameters(), lr=s.lr, weight_decay=s.weight_decay)
        self.optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=d.lr, betas=(0.9, 0.99))

    def __call__(self, batch: Batch) -> None:
        """One step after the warm-up."""
        assert batch.unlabelled is not None and batch.unlabelled_valid is not None and batch.real_labels is not None
        m, known = self.method, batch.labels != self.ignored
        self.optimizer.zero_grad()
        self.optimizer_d.zero_grad()

        self.discriminator.requires_grad_(False)
        logits_u = self.segmenter(batch.unlabelled)
        d_u = self.discriminator(logits_u.softmax(1)).squeeze(1)
        trusted = (d_u.detach().sigmoid() >= m.threshold) & batch.unlabelled_valid
        pseudo_labels = logits_u.detach().argmax(1).masked_fill(~trusted, self.ignored)
        loss = m.lambda_semi_adv * self._adversarial_loss(d_u, 1.0, batch.unlabelled_valid)
        if trusted.any():
            loss = loss + m.lambda_semi * F.cross_entropy(logits_u, pseudo_labels, ignore_index=self.ignored)
        loss.backward()

        logits_l = self.segmenter(batch.images)
        d_l = self.discriminator(logits_l.softmax(1)).squeeze(1)
        loss = F.cross_entropy(logits_l, batch.labels, ignore_index=self.ignored)
        loss = loss + m.lambda_adv * self._adversarial_loss(d_l, 1.0, known)
        loss.backward()

        self.discriminator.requires_grad_(True)
        fakes = torch.cat([logits_l.detach(), logits_u.detach()]).softmax(1)
        d_fake = self.discriminator(fakes).squeeze(1)
        loss_d = 0.5 * self._adversarial_loss(d_fake, 0.0, torch.cat([known, batch.unlabelled_valid]))
        real_known = batch.real_labels != self.ignored
        real = F.one_hot(batch.real_labels * real_known, logits_l.shape[1]).movedim(-1, 1).float()
        d_real = self.discriminator(real * real_known.unsqueeze(1)).squeeze(1)
        loss_d = loss_d + 0.5 * self._adversarial_loss(d_real, 1.0, real_known)
        loss_d.backward()
        self.optimizer.step()
        self.optimizer_d.step()

    @staticmethod
    def _adversarial_loss(d_logits: Tensor, target: float, mask: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(d_logits[mask], torch.full_like(d_logits[mask], target))
