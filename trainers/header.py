"""What a training is about to do, in a few lines for whoever waits for it."""

import torch

from ..models.architectures import Segmenter
from ..models.resize import LongerSide, Resize
from .data.dataset import Dataset
from .described import device_name, network
from .recipe import Recipe


def header(recipe: Recipe, dataset: Dataset, segmenter: Segmenter, device: torch.device) -> list[str]:
    """Device and network, images and their sizes, steps, and what is to be known of the images and masks."""
    settings = recipe.trainer
    crop = "{} x {}".format(*settings.augmentation.crop)
    saved = f", saved every {settings.save_every}" if settings.save_every else ""
    images = ", ".join(f"{len(samples)} {part}" for part, samples in dataset.parts.items() if samples)
    return [
        f"{network(segmenter, recipe.segmenter.architecture)} on {device_name(device)}",
        f"{images} images of {_sizes(settings.resize)}, in crops of {crop}",
        f"{settings.steps} steps of {settings.batch_size} images, evaluated every {settings.evaluate_every}{saved}",
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
