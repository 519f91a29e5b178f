"""Who labels the weak views: a network that follows the student, or the student itself."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ...models.segmenter import Segmenter
from ..profiling import phase
from ..speed import SpeedSettings


class Teacher:
    """A network that is asked, in evaluation mode, but stands in training mode otherwise, as those that learn do.

    So what is done with the statistics that workers gather is done with its own.
    """

    def __init__(self, network: Segmenter, speed: SpeedSettings) -> None:
        self.network = network
        self._speed = speed

    @torch.no_grad()
    def labels(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest classes, int64, of images [N, 3, H, W], and their probabilities: both [N, H, W].

        An image's do not depend on the others of its batch.
        """
        self.network.eval()
        with phase("teacher forward"), self._speed.precision(images.device):
            logits = self.network(images.contiguous(memory_format=self._speed.memory_format))
        self.network.train()
        likeliest = logits.softmax(1).max(1)
        return likeliest.indices, likeliest.values


class Follower(Teacher):
    """An exponential moving average of a student: of its weights and its running statistics."""

    def __init__(self, student: Segmenter, decay: float, speed: SpeedSettings) -> None:
        """`student` lies in memory as it will stay; it may still take other values."""
        super().__init__(deepcopy(student).requires_grad_(False), speed)
        self._decay = decay
        self._ours, self._theirs = _floats(self.network), _floats(student)

    def follow(self, step: int) -> None:
        """Move towards the student as it is after a step; at step 0, become it."""
        average = get_ema_multi_avg_fn(min(1 - 1 / (step + 1), self._decay))
        average(self._ours, self._theirs, step)


def _floats(network: nn.Module) -> list[Tensor]:
    """Weights and statistics, without counts; what the network learns and loads changes them in place."""
    return [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
