"""Everything but the data that determines the weights at the end of a run."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from ..models.architectures import DeepLabSettings, SegmenterSettings
from ..models.discriminator import DiscriminatorSettings
from ..models.settings import Interval, Settings
from .adversarial import MethodSettings
from .data.augment import AugmentationSettings
from .inference import EvaluationSettings, Size
from .speed import SpeedSettings

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class TrainerSettings(MethodSettings):
    """A whole run of training: the method's knobs, the batches and the rhythm of evaluation."""

    batch_size: Annotated[int, Interval(1)] = 10
    """Labelled images a step, over all workers; as many unlabelled ones go with them."""
    accumulation: Annotated[int, Interval(1)] = 1
    """Parts that a batch is divided into, to save memory. Each part has means of its own, and the step their mean."""
    seed: Annotated[int, Interval(0, 2**63, open_high=True)] = 0
    augmentation: AugmentationSettings
    evaluate_every: Annotated[int, Interval(1)] = 1000
    """Steps between two evaluations, each with a report and a checkpoint."""
    evaluation: EvaluationSettings = EvaluationSettings()
    resize: Size | None = None
    """Height and width at which the network reads whole images, in training before augmentation; None is their own."""
    precision: Literal["float32", "float64"] = "float32"
    speed: SpeedSettings = SpeedSettings()
    collapse_patience: Annotated[int, Interval(1)] | None = 10
    """Reports in a row that tell of a won discriminator or a constant prediction, after which the run stops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"accumulation must divide batch_size, but is {self.accumulation} and batch_size {self.batch_size}"
            )
        if self.speed.autocast and self.precision != "float32":
            raise ValueError(f"speed.autocast needs precision float32, but precision is {self.precision}")

    @property
    def micro_batch_size(self) -> int:
        """Labelled images, over all workers, that go through the networks at once."""
        return self.batch_size // self.accumulation


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """Everything but the data that determines the weights at the end."""

    segmenter: SegmenterSettings
    discriminator: DiscriminatorSettings
    trainer: TrainerSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        norm = self.segmenter.batch_norm if isinstance(self.segmenter, DeepLabSettings) else "frozen"
        if self.trainer.speed.joint_forward and norm != "frozen":
            raise ValueError(
                f"trainer.speed.joint_forward would mix the statistics of labelled and unlabelled images where "
                f"model.batch_norm is {norm}: set it to frozen, or joint_forward to false"
            )
        side, crop = self.discriminator.smallest_side, self.trainer.augmentation.crop
        if self.trainer.uses_discriminator and min(crop) < side:
            raise ValueError(
                f"trainer.augmentation.crop is {crop[0]} x {crop[1]}, but a discriminator of "
                f"{len(self.discriminator.widths)} {self.discriminator.classifier} stages needs {side} pixels "
                f"each way: take larger crops, fewer discriminator.widths or a dense classifier"
            )
