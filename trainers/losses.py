"""The four losses of Hung et al. (2018) as sums over pixels.

Each returns the sum of its numerators alone. The caller divides by the count of the *global*
batch, so that a mean is the same however the batch is divided among workers.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_UNSELECTED = -1


def cross_entropy_sum(logits: Tensor, labels: Tensor, ignore_index: int) -> Tensor:
    """Multi-class cross-entropy in nats, summed over the pixels that are not ignored (equation 4).

    logits [N, K, H, W], labels int64 [N, H, W]. All ignored: 0.
    """
    return F.cross_entropy(logits, labels, ignore_index=ignore_index, reduction="sum")


def adversarial_loss_sum(d_logits: Tensor, real: bool, mask: Tensor) -> Tensor:
    """Binary cross-entropy in nats of the discriminator's logits against real or fake, summed over a mask.

    With predictions and `real=True` this is L_adv (equation 5); the two halves of L_D, the discriminator's loss
    (equation 1), are predictions with `real=False` and ground truth with `real=True`.

    d_logits [N, 1, H, W], mask bool [N, H, W].
    """
    losses = F.softplus(-d_logits if real else d_logits)
    return (losses.squeeze(1) * mask).sum()


def confident_pixels(d_logits: Tensor, threshold: float, valid: Tensor) -> Tensor:
    """Pixels whose prediction the discriminator trusts: sigmoid(D) >= threshold. bool [N, H, W].

    d_logits [N, 1, H, W]; valid bool [N, H, W] is False on padding.
    """
    return (d_logits.detach().sigmoid().squeeze(1) >= threshold) & valid


def pseudo_label_loss_sum(logits: Tensor, pseudo_labels: Tensor, selected: Tensor) -> Tensor:
    """L_semi: cross-entropy in nats against pseudo-labels, summed over selected pixels (equation 6).

    logits [N, K, H, W], pseudo_labels int64 [N, H, W] their argmax, selected bool [N, H, W]. None selected: 0.
    """
    return cross_entropy_sum(logits, pseudo_labels.masked_fill(~selected, _UNSELECTED), _UNSELECTED)


def argmax(maps: Tensor) -> Tensor:
    """The class of the greatest value, of several the first: int64 [N, H, W] of maps [N, K, H, W]."""
    return maps.max(1).indices  # as torch.argmax, which is several times slower on CPUs


def one_hot(labels: Tensor, classes: int, ignore_index: int, dtype: torch.dtype) -> Tensor:
    """Ground truth as the discriminator reads it: [N, K, H, W] of 0 and 1, all zero where ignored; channels last."""
    known = (labels != ignore_index).unsqueeze(-1)
    encoded = torch.zeros(*labels.shape, classes, dtype=dtype, device=labels.device)
    encoded.scatter_(-1, labels.unsqueeze(-1) * known, known.to(dtype))
    return encoded.movedim(-1, 1)
