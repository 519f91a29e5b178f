"""What there is to choose in weak-to-strong consistency: FixMatch, mean teacher and UniMatch V2 in one.

FixMatch is Sohn et al. (2020, arXiv:2001.07685), who classify whole images; mean teacher is Tarvainen & Valpola (2017,
arXiv:1703.01780); UniMatch V2 is Yang, Zhao & Zhao (2025, arXiv:2410.10777) with its code, LiheYoung/UniMatch-V2.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from ...models.discriminator import DiscriminatorSettings
from ...models.settings import Interval, Settings
from ..data.dataset import Dataset
from ..data.strong import StrongJitterSettings, StrongSettings
from ..errors import UserError
from ..optimizers import AdamSettings, OptimizerSettings
from ..settings import TrainerSettings
from .critic import check_crop


@dataclass(frozen=True, kw_only=True)
class ConsistencySettings(Settings):
    """What a teacher is sure of in a weak view, a student learns in strong views of the same pixels.

    The loss is half of labelled and half of unlabelled images: (L_ce + lambda_adv L_adv + lambda_semi L_semi) / 2. The
    weak view is that of `trainer.augmentation`. With every lambda at 0 it is supervised learning, and with `lambda_adv`
    alone the adversarial method without unlabelled images; the labelled loss is whole then, and there is no teacher.
    """

    name: Literal["consistency"] = "consistency"
    lambda_semi: Annotated[float, Interval(0)] = 1.0
    """Weight of the pseudo-label loss within its half. It is a mean over all pixels that are no padding, not over the
    selected ones, so few confident pixels weigh little (FixMatch, equation 4, and UniMatch V2, unimatch_v2.py: 1)."""
    threshold: Annotated[float, Interval(0, 1)] = 0.95
    """Softmax probability of the teacher's class from which a pixel is learnt from (FixMatch, table 4; UniMatch V2,
    configs; both 0.95)."""
    teacher: Literal["ema", "self"] = "ema"
    """Who labels weak views: an exponential moving average of the student (mean teacher; UniMatch V2), which then is
    what is evaluated and exported, or the student itself (FixMatch). Either does so in evaluation mode."""
    ema_decay: Annotated[float, Interval(0, 1, open_high=True)] = 0.996
    """What the teacher, its running statistics too, keeps of itself at a step, at most: min(1 - 1 / (step + 1), this),
    so that it begins as the student (UniMatch V2, unimatch_v2.py; mean teacher's code ramps likewise to 0.999)."""
    views: Literal[1, 2] = 1
    """Strong views of an unlabelled image, of whose losses the mean counts (FixMatch: 1, UniMatch V2: 2)."""
    feature_dropout: bool = False
    """Complementary channel dropout (UniMatch V2, model/semseg/dpt.py): of every second image, by chance, the first
    view loses half of the encoder's channels and the second the other half; what is left counts twice. Needs 2 views.
    """
    strong: StrongSettings = StrongSettings()
    lambda_adv: Annotated[float, Interval(0)] = 0.0
    """Weight of the adversarial loss on labelled images, as of the adversarial method; 0 builds no discriminator.
    Nobody has published the two together."""
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    discriminator_optimizer: OptimizerSettings = AdamSettings()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feature_dropout and self.views != 2:
            raise ValueError(
                f"feature_dropout divides channels between 2 views, but views is {self.views}: set views to 2 or "
                f"feature_dropout to false"
            )

    def check(self, trainer: TrainerSettings) -> None:
        """Raise ValueError, in words of the spec, unless a trainer of these settings can learn by the method."""
        if self.lambda_adv > 0:
            check_crop(self.discriminator, trainer.augmentation.crop)
        if self.feature_dropout and trainer.speed.compile:
            raise ValueError(
                "method.feature_dropout reaches into the network, which trainer.speed.compile compiles as a whole: "
                "set one of them to false"
            )

    def check_dataset(self, dataset: Dataset) -> None:
        """Raise UserError unless the dataset has what the method learns from."""
        if self.lambda_semi > 0 and not dataset.unlabelled:
            raise UserError(
                "the dataset has no unlabelled images, but method.lambda_semi is above 0: "
                "name a list in dataset.unlabelled, lower dataset.fraction, or set it to 0"
            )


PRESETS: dict[str, ConsistencySettings] = {
    "fixmatch": ConsistencySettings(teacher="self"),
    "mean-teacher": ConsistencySettings(
        threshold=0.0,
        ema_decay=0.999,
        strong=StrongSettings(
            jitter=StrongJitterSettings(probability=1.0),
            grey_probability=0.0,
            blur_probability=0.0,
            cutmix_probability=0.0,
        ),
    ),
    "unimatch-v2": ConsistencySettings(views=2, feature_dropout=True),
}
"""By name. Of mean teacher are taken its teacher and decay, that every pixel counts, and colour jitter as noise; not
the mean squared difference of probabilities, the noise of the teacher's view, and the ramp of the weight."""
ON_TOP = "fixmatch-adversarial"
"""The variant that nobody has published: FixMatch with the adversarial loss on top."""


def variants(
    lambda_adv: float, discriminator: DiscriminatorSettings, optimizer: OptimizerSettings
) -> dict[str, ConsistencySettings]:
    """The presets by name, and FixMatch with an adversarial loss of this weight and discriminator, if it has one."""
    if lambda_adv == 0:
        return PRESETS
    on_top = replace(
        PRESETS["fixmatch"],
        lambda_adv=lambda_adv,
        discriminator=discriminator,
        discriminator_optimizer=optimizer,
    )
    return {**PRESETS, ON_TOP: on_top}
