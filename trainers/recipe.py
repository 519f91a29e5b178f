"""Everything but the data that determines the weights at the end of a run."""

from dataclasses import dataclass

from ..models.architectures import SegmenterSettings
from ..models.settings import Settings
from .methods.table import MethodSettings
from .settings import TrainerSettings


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """Everything but the data that determines the weights at the end."""

    segmenter: SegmenterSettings
    method: MethodSettings
    trainer: TrainerSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        norm = self.segmenter.norm
        if self.trainer.speed.joint_forward and norm != "frozen":
            raise ValueError(
                f"trainer.speed.joint_forward would mix the statistics of labelled and unlabelled images where "
                f"model.batch_norm is {norm}: set it to frozen, or joint_forward to false"
            )
        for key, share in self.trainer.micro_batches.items():
            if share < self.segmenter.least_share:
                raise ValueError(
                    f"trainer.{key} / accumulation is {share}, but {self.segmenter.architecture} learns from at least "
                    f"{self.segmenter.least_share} images at once where model.batch_norm is {norm}: raise it, or set "
                    f"model.batch_norm to frozen"
                )
        self.method.check(self.trainer)
