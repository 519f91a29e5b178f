"""A picture of what a network makes of the first validation images."""

import torch
from PIL import Image

from ..models.architectures import Normalisation, Segmenter
from ..models.discriminator import Discriminator
from .data.dataset import Dataset
from .data.resize import resize_image, resize_mask
from .inference import Size
from .losses import likeliest
from .panels import colour, compose, heat
from .speed import SpeedSettings

ROWS = 4


@torch.inference_mode()
def draw_validation(
    dataset: Dataset,
    segmenter: Segmenter,
    discriminator: Discriminator | None,
    normalisation: Normalisation,
    *,
    resize: Size | None,
    device: torch.device,
    dtype: torch.dtype,
    speed: SpeedSettings,
) -> Image.Image:
    """Image, truth and prediction, and the discriminator's confidence if there is one and the images are large enough.

    All are shown as the network reads them: at the size `resize`, or else their own.
    """
    scenes = []
    for sample in dataset.validation[:ROWS]:
        image, truth = sample.read_image(), sample.read_mask()
        assert truth is not None
        scenes.append((resize_image(image, resize), resize_mask(truth, resize)) if resize else (image, truth))
    large_enough = discriminator and all(min(truth.shape) >= discriminator.smallest_side for _, truth in scenes)
    judge = discriminator if large_enough else None
    titles = ["image", "truth", "prediction", *(["confidence"] if judge else [])]
    rows = []
    segmenter.eval()
    for image, truth in scenes:
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(device)
        pixels = normalisation(pixels, dtype).contiguous(memory_format=speed.memory_format)
        with speed.precision(device):
            probabilities = segmenter(pixels).softmax(1)
            confidence = judge(probabilities).sigmoid()[0, 0].cpu().numpy() if judge else None
        predicted = likeliest(probabilities)[0].cpu().numpy()
        row = [image, *(colour(mask, dataset.palette, dataset.ignore_index) for mask in (truth, predicted))]
        if confidence is not None:
            row.append(heat(confidence))
        rows.append(row)
    segmenter.train()
    return compose(titles, rows)
