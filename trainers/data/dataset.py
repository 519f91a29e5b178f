"""A dataset: which images have masks, which have none, which validate."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ...models.settings import Interval, Settings
from ..errors import UserError
from .images import ImageError, read_image, read_mask, read_palette, voc_palette

SHOWN_PROBLEMS = 20


class DatasetError(UserError):
    """What is wrong with a dataset, a line for each problem."""


@dataclass(frozen=True, kw_only=True)
class DatasetSettings(Settings):
    """Where a dataset lies and which of its lists play which part."""

    layout: Literal["voc"] = "voc"
    """`voc`: JPEGImages/<id>.jpg, SegmentationClass/<id>.png, ImageSets/Segmentation/<list>.txt."""
    root: Path
    labelled: str = "labelled"
    """List of the images whose masks are trained on."""
    unlabelled: str = "unlabelled"
    """List of the images whose masks, if there are any, are never trained on."""
    validation: str = "val"
    classes: tuple[str, ...]
    """Names of the classes, in the order of their ids from 0."""
    ignore_index: Annotated[int, Interval(0, 255)] = 255
    """Mask value of pixels that count nowhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError(
                f"classes must be two or more different names, but are {', '.join(self.classes) or 'none'}"
            )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image and, where there is one, its mask."""

    id: str
    image: Path
    mask: Path | None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The samples of every part, checked. `digest` names their contents."""

    labelled: tuple[Sample, ...]
    unlabelled: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_index: int
    digest: str


def open_dataset(settings: DatasetSettings) -> Dataset:
    """Read every file of a dataset once, check it and take its digest.

    Raises DatasetError that lists all problems found: missing files, broken images, sizes that differ,
    class ids out of range, an image in two parts, an empty part.
    """
    if not settings.root.is_dir():
        raise DatasetError(f"dataset folder {settings.root} does not exist: set dataset.root to where it lies")
    problems: list[str] = []
    parts = {
        "labelled": _read_list(settings, settings.labelled, problems),
        "unlabelled": _read_list(settings, settings.unlabelled, problems),
        "validation": _read_list(settings, settings.validation, problems),
    }
    problems += _overlaps(parts)
    digest = hashlib.sha256(repr((settings.classes, settings.ignore_index)).encode())
    for part, samples in parts.items():
        for sample in samples:
            digest.update(f"{part}/{sample.id}".encode())
            problems += _problems_of(sample, settings, needs_mask=part != "unlabelled")
            for file in (sample.image, sample.mask):
                if file is not None and file.is_file():
                    digest.update(hashlib.sha256(file.read_bytes()).digest())
    if problems:
        raise DatasetError(_message(settings.root, problems))
    palette = _palette(parts["labelled"], len(settings.classes))
    return Dataset(
        labelled=parts["labelled"],
        unlabelled=parts["unlabelled"],
        validation=parts["validation"],
        classes=settings.classes,
        palette=palette,
        ignore_index=settings.ignore_index,
        digest=digest.hexdigest(),
    )


def _read_list(settings: DatasetSettings, name: str, problems: list[str]) -> tuple[Sample, ...]:
    root = settings.root
    path = root / "ImageSets" / "Segmentation" / f"{name}.txt"
    if not path.is_file():
        problems.append(f"list {path} does not exist: write one image id per line")
        return ()
    samples = []
    for id in path.read_text().split():
        mask = root / "SegmentationClass" / f"{id}.png"
        image = root / "JPEGImages" / f"{id}.jpg"
        samples.append(Sample(id=id, image=image, mask=mask if mask.is_file() else None))
    if not samples:
        problems.append(f"list {path} is empty: it must name at least one image")
    return tuple(samples)


def _overlaps(parts: dict[str, tuple[Sample, ...]]) -> Iterable[str]:
    owner: dict[str, str] = {}
    for part, samples in parts.items():
        for sample in samples:
            if sample.id in owner:
                yield f"{sample.id} is in both {owner[sample.id]} and {part}: each image has one part"
            owner[sample.id] = part


def _problems_of(sample: Sample, settings: DatasetSettings, *, needs_mask: bool) -> Iterable[str]:
    if not sample.image.is_file():
        also = f", though mask {sample.mask} does" if sample.mask else ""
        yield f"image {sample.image} does not exist{also}: add it or take {sample.id} off its list"
        return
    try:
        shape = read_image(sample.image).shape[:2]
        if sample.mask is None:
            if needs_mask:
                yield f"{sample.id} has no mask in SegmentationClass/: add it or list {sample.id} as unlabelled"
            return
        mask = read_mask(sample.mask)
    except ImageError as error:
        yield str(error)
        return
    if mask.shape != shape:
        yield f"{sample.mask} is {mask.shape[1]} x {mask.shape[0]}, but its image is {shape[1]} x {shape[0]}"
    known = mask[mask != settings.ignore_index]
    classes = len(settings.classes)
    if known.size and known.max() >= classes:
        yield (
            f"{sample.mask} holds class id {known.max()}, but ids must be 0 to {classes - 1} or "
            f"{settings.ignore_index} (ignore): extend dataset.classes or mend the mask"
        )


def _message(root: Path, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    lines = [f"{len(problems)} problems in dataset {root}:", *(f"  {p}" for p in problems[:SHOWN_PROBLEMS])]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"  and {len(problems) - SHOWN_PROBLEMS} more")
    return "\n".join(lines)


def _palette(labelled: Sequence[Sample], classes: int) -> tuple[tuple[int, int, int], ...]:
    first = labelled[0].mask
    assert first is not None
    palette = read_palette(first) or []
    return tuple((palette + voc_palette()[len(palette) :])[:classes])
