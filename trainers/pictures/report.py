"""The pictures that go with a report, by their files in a run's directory."""

import torch
from PIL import Image

from ...models.architectures import Normalisation
from ..data.dataset import Dataset
from ..evaluate import Evaluation
from ..methods.method import Method
from ..metrics import class_iou
from ..settings import DTYPES, TrainerSettings
from .class_bars import draw_class_bars
from .confusion import draw_confusion
from .legend import with_legend
from .validation import draw_validation

PANELS = "panels"
"""Folder of the validation panels, one a report."""
CONFUSION, CLASS_BARS = "confusion.png", "classes.png"
"""Pictures of the newest evaluation."""


def draw_report(
    step: int,
    evaluation: Evaluation,
    dataset: Dataset,
    method: Method,
    normalisation: Normalisation,
    settings: TrainerSettings,
    device: torch.device,
) -> dict[str, Image.Image]:
    """What the segmenter makes of the validation images, and an evaluation of it."""
    panel = draw_validation(
        dataset,
        method,
        normalisation,
        resize=settings.resize,
        device=device,
        dtype=DTYPES[settings.precision],
        speed=settings.speed,
    )
    iou = class_iou(evaluation.matrix, dataset.ignore_index)
    return {
        f"{PANELS}/step-{step:08d}.png": with_legend(panel, dataset.classes, dataset.palette),
        CONFUSION: draw_confusion(evaluation.matrix.numpy(), dataset.classes),
        CLASS_BARS: draw_class_bars(iou, dataset.classes, dataset.palette),
    }
