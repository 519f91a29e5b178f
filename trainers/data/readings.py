"""Reading every file of a dataset once: what is wrong with it, its digest, how many pixels each class has."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..progress import progress, tick
from .images import READERS, ImageError, decode_image, decode_mask, is_file, is_there, read_file
from .samples import FileSample


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What masks are held to."""

    classes: int
    """0 if it is not known."""
    ignore_index: int
    maskless: Callable[[str], str]
    """What to say of an image, by its id, that needs a mask and has none."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the files of a sample show."""

    sample: FileSample
    problems: tuple[str, ...]
    image_sum: bytes
    """SHA-256 of the file; empty if it cannot be read."""
    mask_sum: bytes
    pixels: np.ndarray | None = field(compare=False)
    """How many pixels of the mask have each id from 0; None if there is no mask or it cannot be read."""


@dataclass(frozen=True, kw_only=True)
class PartCensus:
    """What a part of a dataset holds, as far as it can be read."""

    images: int
    masks: int
    pixels: np.ndarray = field(compare=False)
    """Of each class in the masks: int64 [K]."""
    ignored: int
    """Pixels of the masks that count nowhere."""


def read_samples(samples: Sequence[FileSample], rules: Rules, *, masks: bool) -> list[Reading]:
    """A reading of each sample, several at a time; `masks` says whether each has to have one."""
    with ThreadPoolExecutor(READERS) as readers:
        readings = readers.map(lambda sample: read_sample(sample, rules, mask=masks), samples)
        return list(progress(readings, len(samples), "images read"))


def read_sample(sample: FileSample, rules: Rules, *, mask: bool) -> Reading:
    """The reading of a sample, which has to have a mask or not."""
    tick()
    problems: list[str] = []
    image_sum = mask_sum = b""
    size = pixels = None
    if is_there(sample.image):
        try:
            content = read_file(sample.image)
            image_sum = hashlib.sha256(content).digest()
            size = decode_image(content, sample.image).shape[:2]
        except ImageError as error:
            problems.append(str(error))
    else:
        also = f", though mask {sample.mask} does" if sample.mask and is_file(sample.mask) else ""
        problems.append(f"image {sample.image} does not exist{also}: add it or take {sample.id} off its list")
    if sample.mask is None:
        if mask:
            problems.append(rules.maskless(sample.id))
    elif not is_there(sample.mask):
        problems.append(f"mask {sample.mask} does not exist: add it or list {sample.id} as unlabelled")
    else:
        try:
            content = read_file(sample.mask)
            mask_sum = hashlib.sha256(content).digest()
            ids = decode_mask(content, sample.mask, sample.coding)
            pixels = np.bincount(ids.ravel())
            problems += _problems_of_mask(sample.mask, ids.shape, size, np.flatnonzero(pixels), rules)
        except ImageError as error:
            problems.append(str(error))
    return Reading(sample=sample, problems=tuple(problems), image_sum=image_sum, mask_sum=mask_sum, pixels=pixels)


def census(masks: Iterable[np.ndarray | None], classes: int, ignore_index: int) -> PartCensus:
    """The sums over the samples of a part: of each how many pixels have each id from 0, None if it has no mask.

    `classes` is 0 if their number is not known.
    """
    images = known = 0
    pixels = np.zeros(max(classes, ignore_index + 1), np.int64)
    for counts in masks:
        images += 1
        if counts is not None:
            known += 1
            counts = counts[: len(pixels)]
            pixels[: len(counts)] += counts
    ignored = int(pixels[ignore_index])
    pixels[ignore_index] = 0
    return PartCensus(images=images, masks=known, pixels=pixels[:classes], ignored=ignored)


def _problems_of_mask(
    mask: Path, size: tuple[int, ...], image_size: tuple[int, ...] | None, ids: np.ndarray, rules: Rules
) -> Iterable[str]:
    if image_size and size != image_size:
        yield f"{mask} is {size[1]} x {size[0]}, but its image is {image_size[1]} x {image_size[0]}: mend either"
    known = ids[ids != rules.ignore_index]
    if rules.classes and known.size and known.max() >= rules.classes:
        yield (
            f"{mask} holds class id {known.max()}, but ids must be 0 to {rules.classes - 1} or "
            f"{rules.ignore_index} (ignore): extend dataset.classes or mend the mask"
        )
