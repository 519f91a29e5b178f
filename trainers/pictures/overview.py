"""A picture of samples of a dataset: images, their masks, and crops as the trainer sees them."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from ...models.resize import Resize
from ..data.augment import AugmentationSettings
from ..data.dataset import Dataset
from ..data.samples import Sample
from ..data.scaled import ScaledSamples
from ..data.streams import Stream
from .legend import with_legend
from .lettering import font_for
from .panels import TILE, colour, compose

PER_PART = 3
_TITLES = ("image", "mask", "mask on image", "crop as trained on", "its mask")
_CAPTION = 30


def draw_overview(
    dataset: Dataset, augmentation: AugmentationSettings, *, seed: int, resize: Resize | None
) -> Image.Image:
    """A few samples of each part, spread evenly over it, above a legend of the classes.

    Those of the training parts are followed by a crop, scaled and augmented as in a run of the seed.
    """
    rows: list[tuple[str, str, list[np.ndarray | None]]] = []
    for part, samples in dataset.parts.items():
        for sample in _spread(samples):
            tiles = _views(sample, dataset)
            if part in ("labelled", "unlabelled"):
                stream = Stream(
                    [sample],
                    digest=dataset.digest,
                    split=f"overview/{part}/{sample.id}",
                    seed=seed,
                    batch_size=1,
                    augmentation=augmentation,
                    ignore_index=dataset.ignore_index,
                    scaled=ScaledSamples(resize),
                )
                crops = stream.crops(0, [0])
                labels = _paint(crops.labels[0].numpy(), dataset) if sample.has_mask else None
                tiles += [crops.images[0].permute(1, 2, 0).numpy(), labels]
            rows.append((part, sample.id, tiles))
    shapes = [tile.shape[0] / tile.shape[1] for _, _, tiles in rows for tile in tiles[:1] if tile is not None]
    height = round(TILE * min(1.5, float(np.median(shapes))))
    framed = [
        [_framed(tile, height, (part, id) if column == 0 else ("", "")) for column, tile in enumerate(tiles)]
        for part, id, tiles in rows
    ]
    return with_legend(compose(_TITLES, framed), dataset.classes, dataset.palette)


def _spread(samples: Sequence[Sample]) -> Iterator[Sample]:
    for place in np.linspace(0, len(samples) - 1, min(PER_PART, len(samples))):
        yield samples[round(place)]


def _views(sample: Sample, dataset: Dataset) -> list[np.ndarray | None]:
    """Image, mask, and mask on image; None where there is no mask."""
    image, mask = sample.read_image(), sample.read_mask()
    if mask is None:
        return [image, None, None]
    painted = _paint(mask, dataset)
    known = (mask != dataset.ignore_index)[..., None]
    return [image, painted, np.where(known, image // 2 + painted // 2, image)]


def _paint(mask: np.ndarray, dataset: Dataset) -> np.ndarray:
    return colour(mask, dataset.palette, dataset.ignore_index)


def _framed(tile: np.ndarray | None, height: int, caption: tuple[str, str]) -> np.ndarray:
    """A tile, whole and undistorted, in a frame of the picture's tile width and a height, with room for a caption."""
    frame = Image.new("RGB", (TILE, height + _CAPTION), "white")
    draw = ImageDraw.Draw(frame)
    if tile is None:
        draw.text((TILE // 2, height // 2), "no mask", fill="grey", anchor="mm")
    else:
        factor = min(TILE / tile.shape[1], height / tile.shape[0])
        size = (max(1, round(factor * tile.shape[1])), max(1, round(factor * tile.shape[0])))
        # A box filter averages where it reduces and repeats pixels where it enlarges.
        frame.paste(Image.fromarray(tile).resize(size, Image.Resampling.BOX))
    part, id = caption
    shown, font = id, font_for([id], 10)
    while font.getlength(shown) > TILE:
        shown = f"...{shown.removeprefix('...')[1:]}"
    draw.text((0, height + 1), part, fill="black")
    draw.text((0, height + 13), shown, fill="grey", font=font)
    return np.asarray(frame)
