"""A picture of what a method's network makes of the first validation images."""

from functools import partial

import numpy as np
import torch
from PIL import Image

from ...models.architectures import Normalisation
from ...models.resize import Resize, size_of
from ..data.dataset import Dataset
from ..data.resize import resize_image, resize_mask
from ..losses import argmax
from ..methods.method import Method
from ..speed import SpeedSettings
from .panels import colour, compose, heat

ROWS = 4


@torch.inference_mode()
def draw_validation(
    dataset: Dataset,
    method: Method,
    normalisation: Normalisation,
    *,
    resize: Resize | None,
    device: torch.device,
    dtype: torch.dtype,
    speed: SpeedSettings,
) -> Image.Image:
    """Image, truth and prediction, and those of the method's maps that it has of all the images.

    A degree is shown as heat, and what the method would learn from as the prediction there, grey elsewhere. All are
    shown as the network reads them: at the size `resize`, or else their own.
    """
    painted = partial(colour, palette=dataset.palette, ignore_index=dataset.ignore_index)
    rows: list[dict[str, np.ndarray]] = []
    method.segmenter.eval()
    for sample in dataset.validation[:ROWS]:
        image, truth = sample.read_image(), sample.read_mask()
        assert truth is not None
        size = size_of(resize, truth.shape)
        image, truth = resize_image(image, size), resize_mask(truth, size)
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(device)
        pixels = normalisation(pixels, dtype).contiguous(memory_format=speed.memory_format)
        with speed.precision(device):
            probabilities = method.segmenter(pixels).softmax(1)
        predicted = argmax(probabilities)[0].cpu().numpy()
        row = {"image": image, "truth": painted(truth), "prediction": painted(predicted)}
        for name, found in method.maps(probabilities).items():
            values = found[0].cpu().numpy()
            chosen = values.dtype == bool
            row[name] = painted(np.where(values, predicted, dataset.ignore_index)) if chosen else heat(values)
        rows.append(row)
    method.segmenter.train()
    titles = [title for title in rows[0] if all(title in row for row in rows)]
    return compose(titles, [[row[title] for title in titles] for row in rows])
