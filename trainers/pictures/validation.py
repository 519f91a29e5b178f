"""A picture of what a network makes of the first validation images."""

from functools import partial

import numpy as np
import torch
from PIL import Image

from ...models.architectures import Normalisation, Segmenter
from ...models.discriminator import Discriminator
from ..data.dataset import Dataset
from ..data.resize import resize_image, resize_mask
from ..inference import Size
from ..losses import argmax, confident_pixels
from ..speed import SpeedSettings
from .panels import colour, compose, heat

ROWS = 4


@torch.inference_mode()
def draw_validation(
    dataset: Dataset,
    segmenter: Segmenter,
    discriminator: Discriminator | None,
    normalisation: Normalisation,
    *,
    threshold: float | None,
    resize: Size | None,
    device: torch.device,
    dtype: torch.dtype,
    speed: SpeedSettings,
) -> Image.Image:
    """Image, truth and prediction, and what the discriminator makes of it if the images are large enough for one.

    That is its confidence and, with a threshold, the prediction where it would be learnt from were the image
    unlabelled, grey elsewhere. All are shown as the network reads them: at the size `resize`, or else their own.
    """
    scenes = []
    for sample in dataset.validation[:ROWS]:
        image, truth = sample.read_image(), sample.read_mask()
        assert truth is not None
        scenes.append((resize_image(image, resize), resize_mask(truth, resize)) if resize else (image, truth))
    large_enough = discriminator and all(min(truth.shape) >= discriminator.smallest_side for _, truth in scenes)
    judge = discriminator if large_enough else None
    titles = ["image", "truth", "prediction"]
    if judge:
        titles += ["confidence"] if threshold is None else ["confidence", "selected"]
    painted = partial(colour, palette=dataset.palette, ignore_index=dataset.ignore_index)
    rows = []
    segmenter.eval()
    for image, truth in scenes:
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(device)
        pixels = normalisation(pixels, dtype).contiguous(memory_format=speed.memory_format)
        with speed.precision(device):
            probabilities = segmenter(pixels).softmax(1)
            d_logits = judge(probabilities).cpu() if judge else None
        predicted = argmax(probabilities)[0].cpu().numpy()
        row = [image, painted(truth), painted(predicted)]
        if d_logits is not None:
            row.append(heat(d_logits.sigmoid()[0, 0].numpy()))
            if threshold is not None:
                selected = confident_pixels(d_logits, threshold, torch.ones(1, *truth.shape, dtype=torch.bool))
                row.append(painted(np.where(selected[0].numpy(), predicted, dataset.ignore_index)))
        rows.append(row)
    segmenter.train()
    return compose(titles, rows)
