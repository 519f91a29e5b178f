"""The published implementation of Hung et al. (2018), driven through its own modules.

`git clone https://github.com/hfslyc/AdvSemiSeg` and pass the folder as PEER. Its training script is Python 2 and one
function, so the order of its step is written down here anew; networks, losses and datasets are its own. What it moves
to the host and back in every step is moved here too: that is part of its cost.
"""

import importlib
import sys
import warnings
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = 255
_UNUSED = ("torchvision", "matplotlib", "matplotlib.pyplot")
"""What its dataset module imports and uses only when run as a script."""


class Peer:
    """The modules of a checkout."""

    def __init__(self, path: Path) -> None:
        if not (path / "model" / "deeplab.py").is_file():
            sys.exit(f"error: PEER is {path}, which has no deeplab.py: clone hfslyc/AdvSemiSeg and name its folder")
        sys.path.insert(0, str(path))
        for name in _UNUSED:
            if name not in sys.modules:
                sys.modules[name] = ModuleType(name)
        self.deeplab = importlib.import_module("model.deeplab")
        self.discriminator = importlib.import_module("model.discriminator")
        self.loss = importlib.import_module("utils.loss")
        self.voc = importlib.import_module("dataset.voc_dataset")


class PublishedStep:
    """Its step with the README's weights: lambda_adv 0.01, lambda_semi_adv 0.001, lambda_semi 0.1, T 0.2."""

    def __init__(self, peer: Peer, classes: int, device: torch.device, *, autocast: bool = False) -> None:
        self.device, self.classes, self.autocast = device, classes, autocast
        self.segmenter = peer.deeplab.Res_Deeplab(num_classes=classes).to(device).train()
        self.discriminator = peer.discriminator.FCDiscriminator(num_classes=classes).to(device).train()
        groups = self.segmenter.optim_parameters(Namespace(learning_rate=2.5e-4))
        with warnings.catch_warnings():
            # Its body's parameters stand about three times in the optimizer.
            warnings.filterwarnings("ignore", message="optimizer contains a parameter group with duplicate")
            self.optimizer = torch.optim.SGD(groups, lr=2.5e-4, momentum=0.9, weight_decay=5e-4)
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), lr=1e-4, betas=(0.9, 0.99))
        self.cross_entropy = peer.loss.CrossEntropy2d()
        self.adversarial_loss = peer.loss.BCEWithLogitsLoss2d()

    def __call__(self, images: Tensor, labels: Tensor, labels_gt: Tensor, unlabelled: Tensor) -> None:
        """One iteration after the warm-up on batches as its loaders give them: float32 on the host."""
        with warnings.catch_warnings(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            warnings.filterwarnings("ignore", message="size_average and reduce")
            self._step(images, labels, labels_gt, unlabelled)

    def _step(self, images: Tensor, labels: Tensor, labels_gt: Tensor, unlabelled: Tensor) -> None:
        up = nn.Upsample(size=tuple(images.shape[-2:]), mode="bilinear", align_corners=True)
        self.optimizer.zero_grad()
        self.optimizer_d.zero_grad()
        for parameter in self.discriminator.parameters():
            parameter.requires_grad = False

        predicted = up(self.segmenter(unlabelled.to(self.device)))
        predicted_remain = predicted.detach()
        d_out = up(self.discriminator(F.softmax(predicted, dim=1)))
        confidence = torch.sigmoid(d_out).data.float().cpu().numpy().squeeze(axis=1)
        ignored_remain = np.zeros(confidence.shape, bool)
        loss_semi_adv = 0.001 * self.adversarial_loss(d_out, self._d_label(1, ignored_remain))
        loss_semi_adv.item()
        untrusted = confidence < 0.2
        own = predicted.data.float().cpu().numpy().argmax(axis=1)
        own[untrusted] = IGNORED
        if untrusted.all():
            loss_semi_adv.backward()
        else:
            loss_semi = 0.1 * self.cross_entropy(predicted, torch.from_numpy(own).long().to(self.device))
            loss_semi.item()
            (loss_semi + loss_semi_adv).backward()

        ignored = labels.numpy() == IGNORED
        predicted = up(self.segmenter(images.to(self.device)))
        loss_seg = self.cross_entropy(predicted, labels.long().to(self.device))
        d_out = up(self.discriminator(F.softmax(predicted, dim=1)))
        loss_adv = self.adversarial_loss(d_out, self._d_label(1, ignored))
        (loss_seg + 0.01 * loss_adv).backward()
        loss_seg.item(), loss_adv.item()

        for parameter in self.discriminator.parameters():
            parameter.requires_grad = True
        fakes = torch.cat((predicted.detach(), predicted_remain), 0)
        d_out = up(self.discriminator(F.softmax(fakes, dim=1)))
        loss_d = self.adversarial_loss(d_out, self._d_label(0, np.concatenate((ignored, ignored_remain)))) / 2
        loss_d.backward()
        loss_d.item()
        real = labels_gt.numpy()
        encoded = np.stack([real == k for k in range(self.classes)], axis=1)
        d_out = up(self.discriminator(torch.from_numpy(encoded).float().to(self.device)))
        loss_d = self.adversarial_loss(d_out, self._d_label(1, real == IGNORED)) / 2
        loss_d.backward()
        loss_d.item()
        self.optimizer.step()
        self.optimizer_d.step()

    def _d_label(self, value: int, ignored: np.ndarray) -> Tensor:
        label = np.full((len(ignored), 1, *ignored.shape[1:]), value, np.float64)
        label[ignored[:, None]] = IGNORED
        return torch.from_numpy(label).float().to(self.device)
