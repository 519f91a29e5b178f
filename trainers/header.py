"""What a training is about to do, in a few lines for whoever waits for it."""

import torch

from ..models.architectures import Segmenter
from .data.dataset import Dataset
from .described import device_name, network
from .recipe import Recipe


def header(recipe: Recipe, dataset: Dataset, segmenter: Segmenter, device: torch.device) -> list[str]:
    """Device and network, images and their sizes, steps, and what is to be known of the images and masks."""
    settings = recipe.trainer
    crop = "{} x {}".format(*settings.augmentation.crop)
    sizes = "{} x {}".format(*settings.resize) if settings.resize else "their own size"
    images = ", ".join(f"{len(samples)} {part}" for part, samples in dataset.parts.items() if samples)
    return [
        f"{network(segmenter, recipe.segmenter.architecture)} on {device_name(device)}",
        f"{images} images of {sizes}, in crops of {crop}",
        f"{settings.steps} steps of {settings.batch_size} images, evaluated every {settings.evaluate_every}",
        *(f"note: {note}" for note in dataset.notes),
    ]
