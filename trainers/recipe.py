"""Everything but the data that determines the weights at the end of a run."""

from dataclasses import dataclass

from ..models.architectures import DeepLabSettings, SegmenterSettings
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
        norm = self.segmenter.batch_norm if isinstance(self.segmenter, DeepLabSettings) else "frozen"
        if self.trainer.speed.joint_forward and norm != "frozen":
            raise ValueError(
                f"trainer.speed.joint_forward would mix the statistics of labelled and unlabelled images where "
                f"model.batch_norm is {norm}: set it to frozen, or joint_forward to false"
            )
        self.method.check(self.trainer)
