"""Reading every file of a dataset once: what is wrong with it, its digest, how many pixels each class has."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...models.damage import refuse_damaged
from ..progress import progress
from .images import (
    READERS,
    SIDEWAYS,
    ImageError,
    decode_image_of_dataset,
    is_file,
    is_there,
    orientation_of,
    read_file,
    told,
)
from .masks import DecodedMask, decode_mask
from .samples import FileSample

_TURNED_REMEDY = (
    "turn the mask, or set dataset.orientation to ignore, as `advseg data init` does by --orientation ignore"
)


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
    """Without its mask where that cannot be used and need not be."""
    problems: tuple[str, ...]
    unused: str
    """What is wrong with a mask that need not be there; empty if nothing is."""
    image_sum: bytes
    """SHA-256 of the file; empty if it cannot be read."""
    orientation: int
    """Of the image, as its EXIF or XMP data tell it; 1 where its pixels are upright."""
    mask_sum: bytes
    pixels: np.ndarray | None = field(compare=False)
    """How many pixels of the mask have each id from 0; None if there is no mask or it cannot be read."""
    mask: DecodedMask | None
    """How the mask was read, without its ids."""


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
    """The reading of a sample. Only what has to have a mask has a problem with it."""
    problems: list[str] = []
    image_sum, size, orientation = b"", None, 1
    if is_there(sample.image):
        try:
            content = read_file(sample.image)
            image_sum = hashlib.sha256(content).digest()
            size = decode_image_of_dataset(content, sample.image, sample.decoding).shape[:2]
            orientation = orientation_of(content, sample.decoding)
            with told():
                refuse_damaged(content, sample.image)
        except ImageError as error:
            problems.append(str(error))
    else:
        also = f", though mask {sample.mask} does" if sample.mask and is_file(sample.mask) else ""
        problems.append(f"image {sample.image} does not exist{also}: add it or take {sample.id} off its list")
    found = _Mask() if sample.mask is None else _read_mask(sample, sample.mask, size, orientation, rules)
    if mask and sample.mask is None:
        problems.append(rules.maskless(sample.id))
    unused = "" if mask else "; ".join(found.problems)
    if unused:
        sample, found = replace(sample, mask=None), _Mask()
    return Reading(
        sample=sample,
        problems=(*problems, *found.problems),
        unused=unused,
        image_sum=image_sum,
        orientation=orientation,
        mask_sum=found.sum,
        pixels=found.pixels,
        mask=found.decoded,
    )


@dataclass(frozen=True, kw_only=True)
class _Mask:
    """What a mask's file shows; by default that there is none."""

    sum: bytes = b""
    decoded: DecodedMask | None = None
    pixels: np.ndarray | None = None
    problems: tuple[str, ...] = ()


def _read_mask(sample: FileSample, path: Path, size: tuple[int, ...] | None, orientation: int, rules: Rules) -> _Mask:
    if not is_there(path):
        return _Mask(problems=(f"mask {path} does not exist: add it or list {sample.id} as unlabelled",))
    sum = b""
    try:
        content = read_file(path)
        sum = hashlib.sha256(content).digest()
        decoded = decode_mask(content, path, sample.coding, sample.decoding)
        with told():
            refuse_damaged(content, path)
    except ImageError as error:
        return _Mask(sum=sum, problems=(str(error),))
    pixels = np.bincount(decoded.ids.ravel())
    return _Mask(
        sum=sum,
        decoded=replace(decoded, ids=np.empty(0)),
        pixels=pixels,
        problems=tuple(_problems_of_mask(path, decoded.ids.shape, size, orientation, np.flatnonzero(pixels), rules)),
    )


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


def size_problem(mask: Path, size: tuple[int, ...], image_size: tuple[int, ...], orientation: int) -> str:
    """That a mask has another size than its image, which lay by an orientation."""
    turned = orientation in SIDEWAYS and size == image_size[::-1]
    why = " once turned upright as its EXIF data say" if turned else ""
    remedy = _TURNED_REMEDY if turned else "mend either"
    return f"{mask} is {size[1]} x {size[0]}, but its image is {image_size[1]} x {image_size[0]}{why}: {remedy}"


def _problems_of_mask(
    mask: Path,
    size: tuple[int, ...],
    image_size: tuple[int, ...] | None,
    orientation: int,
    ids: np.ndarray,
    rules: Rules,
) -> Iterable[str]:
    if image_size and size != image_size:
        yield size_problem(mask, size, image_size, orientation)
    known = ids[ids != rules.ignore_index]
    if rules.classes and known.size and known.max() >= rules.classes:
        yield (
            f"{mask} holds class id {known.max()}, but ids must be 0 to {rules.classes - 1} or "
            f"{rules.ignore_index} (ignore): extend dataset.classes, name each class's value in classes.yaml, or mend "
            f"the mask"
        )
