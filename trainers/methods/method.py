"""What a way to learn is to the training that it serves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from ...models.bundle import Card
from ...models.segmenter import Segmenter
from ..data.strong import StrongSettings
from ..labelled_loss import LabelledLoss
from ..meter import Meter


@dataclass(frozen=True, kw_only=True)
class Wants:
    """What a batch is to hold beside labelled images."""

    real: bool = False
    """Labels of a draw of their own, which no prediction is compared with."""
    unlabelled: bool = False
    unlabelled_labels: bool = False
    """What masks unlabelled images have, by which pseudo-labels are measured."""
    strong: tuple[StrongSettings, ...] = ()
    """How each strong view of unlabelled images is drawn."""

    @property
    def partners(self) -> bool:
        """Whether unlabelled images are mixed with others of their micro-batch."""
        return any(view.cutmix_probability > 0 for view in self.strong)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One worker's share of a global batch or of a micro-batch of it.

    Images are normalised [N, 3, H, W], maps are [N, H, W]. Where unlabelled images are mixed there may be more of them
    and of their strong views: behind this worker's own follow those partners of theirs that other workers have.
    """

    images: Tensor
    labels: Tensor
    real_labels: Tensor | None = None
    """int64; drawn independently of `labels`."""
    unlabelled: Tensor | None = None
    unlabelled_valid: Tensor | None = None
    """bool, False on padding."""
    unlabelled_labels: Tensor | None = None
    """int64, ignore index where unknown, of this worker's own; only measures how right pseudo-labels are."""
    strong: Tensor | None = None
    """Strong views [V, N, 3, H, W] of the unlabelled images, not mixed yet."""
    boxes: Tensor | None = None
    """[V, N, 4] of this worker's own: top, left, bottom and right of what shows the partner; all 0 shows nothing."""
    partners: Tensor | None = None
    """int64 [N] of this worker's own: with which of the unlabelled images each is mixed; None if none is."""
    channels: Tensor | None = None
    """int64 [N] of this worker's own: keys of the channels that are dropped, -1 where all are kept."""


class Method(Protocol):
    """Networks, and the step that changes them. A training draws, steps, evaluates, reports and saves."""

    segmenter: Segmenter
    """What is evaluated and exported."""
    student: Segmenter
    """What learns: the same, or another network that `segmenter` follows."""
    meter: Meter
    labelled_loss: LabelledLoss
    """What is learnt on labelled images, whatever else is."""

    def wants(self, step: int) -> Wants:
        """What a step's batch is to hold; it may be asked at any time, by any thread."""
        ...

    def step(self, step: int, micro_batches: Sequence[Batch]) -> None:
        """Learn from one batch, whose micro-batches go through the networks one after another to save memory.

        Nothing in it waits for the device.
        """
        ...

    def rates(self, step: int) -> dict[str, float]:
        """Base learning rates at a step, by network."""
        ...

    def maps(self, probabilities: Tensor) -> dict[str, Tensor]:
        """What the method makes of predictions [N, K, H, W], as maps [N, H, W] by name: empty if it has nothing to say.

        A map of floats in 0...1 is a degree, one of bools tells which predictions would be learnt from.
        """
        ...

    def symptoms(self, metrics: Mapping[str, float]) -> tuple[str, ...]:
        """What is wrong with the method by the figures since the last report, a line each."""
        ...

    def export(self, path: Path, card: Card) -> None:
        """Write the trained model as a directory; `card` says all but what the method alone knows."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that resumes except the step and the meter."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that `state_dict` gave."""
        ...


def networks_of(method: Method) -> nn.Module:
    """A method's segmenter and its student, each once, for what is done to the statistics of either."""
    return nn.ModuleList([method.student, method.segmenter])
