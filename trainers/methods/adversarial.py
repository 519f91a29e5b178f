"""What there is to choose in adversarial learning (Hung et al., 2018), and what its losses need."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ...models.discriminator import DiscriminatorSettings
from ...models.settings import Interval, Settings
from ..data.dataset import Dataset
from ..errors import UserError
from ..optimizers import AdamSettings, OptimizerSettings
from ..settings import TrainerSettings
from .critic import check_crop

ABLATIONS: dict[str, dict[str, Any]] = {
    "adversarial": {"lambda_semi_adv": 0.0, "lambda_semi": 0.0},
    "pseudo-label": {"lambda_adv": 0.0, "lambda_semi_adv": 0.0},
    "void-hidden": {"discriminator_sees_void": False},
    "semi": {},
}
"""By name, the fields that each sets: without what learns from unlabelled images, with that alone, with a discriminator
that cannot go by void and padding, and as it is."""


@dataclass(frozen=True, kw_only=True)
class AdversarialSettings(Settings):
    """The method's weights, its threshold and its discriminator. With every lambda at 0 it is supervised learning."""

    name: Literal["adversarial"] = "adversarial"
    lambda_adv: Annotated[float, Interval(0)] = 0.01
    """Weight of the adversarial loss on labelled images."""
    lambda_semi_adv: Annotated[float, Interval(0)] = 0.001
    """Weight of the adversarial loss on unlabelled images."""
    lambda_semi: Annotated[float, Interval(0)] = 0.1
    """Weight of the pseudo-label loss on confident unlabelled pixels."""
    threshold: Annotated[float, Interval(0, 1)] = 0.2
    """Confidence of the discriminator, as a probability, from which an unlabelled pixel is learnt from."""
    semi_start: Annotated[int, Interval(0)] = 5000
    """First step, counted from 0, with the pseudo-label loss: the discriminator needs a warm-up."""
    semi_adv_start: Annotated[int, Interval(0)] = 0
    """First step, counted from 0, with the adversarial loss on unlabelled images."""
    discriminator_sees_unlabelled: bool = True
    """Whether predictions on unlabelled images are fakes to the discriminator too (released code: yes, paper: no)."""
    discriminator_sees_void: bool = True
    """Whether the discriminator sees predictions where there is no truth (paper and released code: yes). One-hot truth
    is zero on void and padding, so it can tell the two apart by that alone. False: predictions are zero there too."""
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    discriminator_optimizer: OptimizerSettings = AdamSettings()

    def check(self, trainer: TrainerSettings) -> None:
        """Raise ValueError, in words of the spec, unless a trainer of these settings can learn by the method."""
        starts = (("semi", self.semi_start, self.lambda_semi), ("semi_adv", self.semi_adv_start, self.lambda_semi_adv))
        for name, start, weight in starts:
            if weight > 0 and start >= trainer.steps:
                raise ValueError(
                    f"method.{name}_start must be below trainer.steps, {trainer.steps}, as method.lambda_{name} is "
                    f"{weight:g}, but is {start}: lower it, raise trainer.steps or set method.lambda_{name} to 0"
                )
        if self.uses_discriminator:
            check_crop(self.discriminator, trainer.augmentation.crop)

    def check_dataset(self, dataset: Dataset) -> None:
        """Raise UserError unless the dataset has what the method learns from."""
        if self.uses_unlabelled and not dataset.unlabelled:
            raise UserError(
                "the dataset has no unlabelled images, but method.lambda_semi or lambda_semi_adv is above 0: "
                "name a list in dataset.unlabelled, lower dataset.fraction, or set both to 0"
            )

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
        """Weight of the pseudo-label loss at a step."""
        return self.lambda_semi if step >= self.semi_start else 0.0
