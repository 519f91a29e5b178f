"""What a training is about to do, in a few lines for whoever waits for it."""

import torch

from ..models.resize import LongerSide, Resize
from ..models.segmenter import Segmenter
from .data.dataset import Dataset
from .described import device_name, network
from .evaluate import judged_by
from .recipe import Recipe


def header(recipe: Recipe, dataset: Dataset, segmenter: Segmenter, device: torch.device, workers: int) -> list[str]:
    """Network and devices, images and their sizes, steps, and what is to be known of the images and masks."""
    settings = recipe.trainer
    crop = "{} x {}".format(*settings.augmentation.crop)
    shared = f", in each of {workers} processes, which share every batch" if workers > 1 else ""
    judged = judged_by(settings.evaluation, dataset)
    by = f" by {judged} of the validation images" if judged else ""
    saved = f", saved every {settings.save_every}" if settings.save_every else ""
    images = ", ".join(f"{len(samples)} {part}" for part, samples in dataset.parts.items() if samples)
    return [
        f"{network(segmenter, recipe.segmenter.architecture)} on {device_name(device)}{shared}",
        f"{images} images of {_sizes(settings.resize)}, in crops of {crop}",
        f"{settings.steps} steps of {settings.batch_size} images, evaluated every {settings.evaluate_every}{by}{saved}",
        *(f"note: {note}" for note in dataset.notes),
    ]


def _sizes(resize: Resize | None) -> str:
    match resize:
        case None:
            return "their own size"
        case LongerSide():
            return f"{resize.longer} pixels on the longer side"
        case height, width:
            return f"{height} x {width}"
