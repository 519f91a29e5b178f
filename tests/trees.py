"""Tiny datasets in the trees that VOC and Cityscapes are distributed in."""

from pathlib import Path

import numpy as np
from PIL import Image

from advseg.trainers.data.classes import CITYSCAPES_LABEL_IDS, CITYSCAPES_PALETTE
from advseg.trainers.data.images import voc_palette, write_mask

VOC_BORDER, CITYSCAPES_UNLABELED = 255, 0


def write_voc(root: Path, *, train: int = 4, extra: int = 4, val: int = 3) -> Path:
    """A VOC2012 folder: masks in SegmentationClass, and those of `extra` images, in grey, in SegmentationClassAug.

    Lists are train, train_aug (with the extra images) and val.
    """
    ids = [f"2007_{number:06d}" for number in range(train + extra + val)]
    lists = {"train": ids[:train], "train_aug": ids[: train + extra], "val": ids[train + extra :]}
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for name, listed in lists.items():
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("".join(f"{id}\n" for id in listed))
    for number, id in enumerate(ids):
        image, mask = _scene(number, (40, 52 - number % 3), tuple(range(21)), VOC_BORDER, voc_palette())
        Image.fromarray(image).save(root / "JPEGImages" / f"{id}.jpg", quality=92)
        if train <= number < train + extra:
            Image.fromarray(mask).save(root / "SegmentationClassAug" / f"{id}.png")
        else:
            write_mask(root / "SegmentationClass" / f"{id}.png", mask, voc_palette())
    return root


def write_cityscapes(root: Path, *, train: int = 6, val: int = 2) -> Path:
    """A Cityscapes folder with labelIds masks, of the splits train (aachen and bochum) and val (frankfurt)."""
    for number in range(train + val):
        split, city = ("val", "frankfurt") if number >= train else ("train", ("aachen", "bochum")[number % 2])
        colours = dict(zip(CITYSCAPES_LABEL_IDS, CITYSCAPES_PALETTE, strict=True))
        image, mask = _scene(number, (32, 64), CITYSCAPES_LABEL_IDS, CITYSCAPES_UNLABELED, colours)
        for kind, suffix, pixels in (("leftImg8bit", "leftImg8bit", image), ("gtFine", "gtFine_labelIds", mask)):
            folder = root / kind / split / city
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{city}_{number:06d}_000019_{suffix}.png")
    return root


def _scene(number, size, values, unlabelled_value, colours) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 [h, w, 3] of noisy rectangles in their classes' colours, and its mask uint8 [h, w]."""
    rng = np.random.default_rng(number)
    mask = np.full(size, values[0], np.uint8)
    for value in rng.choice(values[1:], 3, replace=False):
        top, left = rng.integers(0, size[0] - 16), rng.integers(0, size[1] - 16)
        mask[top : top + 16, left : left + 16] = unlabelled_value
        mask[top + 1 : top + 15, left + 1 : left + 15] = value
    table = np.zeros((256, 3))
    for value in values:
        table[value] = colours[value]
    noisy = table[mask] + rng.normal(0, 10, (*size, 3))
    return noisy.clip(0, 255).astype(np.uint8), mask
