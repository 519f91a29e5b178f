"""Opening a dataset: every file is read once, and all that is wrong is told at once."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ...models.decoding import PLAIN
from ..errors import UserError, listed, on_one_line
from .agreement import disagreements
from .classes import VOC_CLASSES, complete_palette
from .dataset import Dataset, DatasetError, DatasetSettings, Inspection
from .images import colour_numbers, is_file, voc_palette
from .known_digests import Known, keep, known, stamp_of
from .layouts import LAYOUTS, TREES, Layout, some
from .lists import is_list_file, read_list, read_order
from .masks import read_palette
from .notes import notes_on_masks
from .readings import Reading, Rules, census, read_samples
from .samples import FileSample

SHOWN_PROBLEMS = 20
_Part = Literal["validation"]
"""What may be opened without the rest."""
_Parts = dict[str, tuple[FileSample, ...]]
_JUDGING = ("validation", "test")
"""Parts by which others are judged."""


def open_dataset(settings: DatasetSettings, only: _Part | None = None) -> Dataset:
    """Read every file of a dataset, check it and take its digest; or open its pack, without reading a pixel.

    Files that this machine has read before are not read again. With `only`, unless it has read all of them, no list or
    file of another part need be there: the dataset has that part alone, and no digest. Raises DatasetError that lists
    the problems.
    """
    if settings.pack is not None:
        # PyArrow takes a sixth of a second to import.
        from .pack import open_pack

        return open_pack(Path(settings.pack), settings)
    try:
        listing = _list(settings)
        stamp, dataset = _recalled(settings, listing)
        if dataset is None and only:
            listing = _list(settings, only)
            stamp, dataset = _recalled(settings, listing)
    except UserError as error:
        raise DatasetError(str(error)) from None
    if dataset:
        return dataset
    inspection = _read(settings, listing)
    if (dataset := inspection.dataset) is None:
        raise DatasetError(listed(inspection.problems, f"dataset {settings.root}", SHOWN_PROBLEMS))
    if stamp:
        unused = frozenset(_unused(listing.parts, dataset))
        keep(stamp, Known(digest=dataset.digest, unused=unused, notes=dataset.notes))
    return dataset


def inspect_dataset(settings: DatasetSettings) -> Inspection:
    """Read every file of a dataset, or of its pack, once and tell all that is wrong with it.

    Problems are: another tree than the layout's, lists that are missing, empty or name an image twice, missing
    files, broken images, sizes that differ, class ids and colours out of range, masks missing where they are
    needed, an image or a copy of it both in validation and in training. A pack is damaged, or of other settings.
    """
    if settings.pack is not None:
        from .pack import inspect_pack

        return inspect_pack(Path(settings.pack), settings)
    try:
        listing = _list(settings)
    except UserError as error:
        return Inspection(dataset=None, problems=(str(error),), classes=(), parts={}, notes=())
    return _read(settings, listing)


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """What a dataset's lists say, before any image is opened."""

    layout: Layout
    parts: _Parts
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    is_whole: bool
    """Whether all parts were listed, and not one alone."""

    def stamp(self, settings: DatasetSettings) -> str | None:
        """What is the same as long as reading the files would show the same."""
        samples = [(part, sample) for part, samples in self.parts.items() for sample in samples]
        files = (file for _, sample in samples for file in (sample.image, sample.mask) if file)
        return stamp_of((settings.layout, self.layout.classes, settings.ignore_index, samples, self.notes), files)


def _list(settings: DatasetSettings, only: _Part | None = None) -> _Listing:
    """Raises UserError if the folder is none of the layout."""
    layout = _open_layout(settings)
    problems, notes = list(layout.problems), []
    if only:
        parts: _Parts = {"labelled": (), "unlabelled": (), "validation": ()}
        parts |= {only: tuple(_listed(settings, layout, only, problems))}
    else:
        parts = _parts(settings, layout, problems, notes)
        problems += _overlaps(parts)
    return _Listing(layout=layout, parts=parts, problems=tuple(problems), notes=tuple(notes), is_whole=only is None)


def _recalled(settings: DatasetSettings, listing: _Listing) -> tuple[str | None, Dataset | None]:
    """The stamp of a listing, None if there can be none, and the dataset, if this machine has read it before."""
    stamp = None if listing.problems else listing.stamp(settings)
    if stamp and (found := known(stamp)):
        parts = _without_masks(listing.parts, found.unused)
        return stamp, _dataset(settings, listing.layout, parts, found.digest, found.notes)
    return stamp, None


def _read(settings: DatasetSettings, listing: _Listing) -> Inspection:
    layout, parts = listing.layout, listing.parts
    rules = Rules(classes=len(layout.classes), ignore_index=settings.ignore_index, maskless=layout.maskless)
    readings = {part: read_samples(samples, rules, masks=part != "unlabelled") for part, samples in parts.items()}
    parts = {part: tuple(reading.sample for reading in of_part) for part, of_part in readings.items()}
    unused = [reading.unused for of_part in readings.values() for reading in of_part if reading.unused]
    ids = {sample.id for samples in parts.values() for sample in samples}
    told = f"masks of {len(unused)} unlabelled images are not used, such as that of which this is wrong: "
    problems = [*listing.problems, *(each for part in parts for reading in readings[part] for each in reading.problems)]
    problems = list(dict.fromkeys([*problems, *_copies(readings), *_disagreements(layout, readings)]))
    censuses = {
        part: census((reading.pixels for reading in readings[part]), rules.classes, rules.ignore_index)
        for part in parts
    }
    notes = [*(told + each for each in unused[:1]), *_turned(readings), *notes_on_masks(censuses, layout.classes)]
    notes = tuple(map(on_one_line, [*listing.notes, *notes]))
    digest = _digest(settings, layout, readings) if listing.is_whole else ""
    return Inspection(
        dataset=None if problems else _dataset(settings, layout, parts, digest, notes),
        problems=tuple(problems),
        classes=layout.classes,
        parts=censuses,
        notes=(*notes, *map(on_one_line, layout.beside(ids))),
    )


def _open_layout(settings: DatasetSettings) -> Layout:
    if not settings.root.is_dir():
        raise UserError(
            f"dataset folder {settings.root} does not exist: set dataset.root to where it lies, "
            f"or put {TREES[settings.layout]} there"
        )
    return LAYOUTS[settings.layout](settings.root, settings.classes, settings.ignore_index)


def _parts(settings: DatasetSettings, layout: Layout, problems: list[str], notes: list[str]) -> _Parts:
    labelled = _listed(settings, layout, "labelled", problems)
    unlabelled = _listed(settings, layout, "unlabelled", problems)
    order = None
    if settings.order is not None and labelled:
        file = Path(settings.order) if is_list_file(settings.order) else layout.list_file(settings.order)
        try:
            order = read_order(file, len(labelled))
        except UserError as error:
            problems.append(str(error))
    kept = set(choose(len(labelled), settings.fraction, settings.split_seed, order)) if labelled else set()
    rest = [sample for index, sample in enumerate(labelled) if index not in kept]
    if rest:
        notes.append(f"masks of {len(kept)} of {len(labelled)} labelled images are trained on, {len(rest)} go without")
    ids = {sample.id for sample in labelled}
    others = [sample for sample in unlabelled if sample.id not in ids]
    if both := len(unlabelled) - len(others):
        notes.append(f"{both} images of the unlabelled list are left out of it, as they are on the labelled list too")
    others = [_without_missing_mask(sample) for sample in others]
    # In published trees all images have masks, and lists alone say which are used.
    if settings.layout == "folder" and (masked := [sample.id for sample in others if sample.mask]):
        notes.append(
            f"{len(masked)} images of the unlabelled list have masks now, which are not trained on: move them to the "
            f"labelled list: {some(masked)}"
        )
    parts = {
        "labelled": tuple(labelled[index] for index in sorted(kept)),
        "unlabelled": (*others, *map(_without_missing_mask, rest)),
        "validation": tuple(_listed(settings, layout, "validation", problems)),
    }
    test = tuple(_listed(settings, layout, "test", problems))
    return parts | ({"test": test} if test else {})


def _listed(settings: DatasetSettings, layout: Layout, part: str, problems: list[str]) -> list[FileSample]:
    """The samples of a part's list. What is wrong with it is added to the problems."""
    if (name := getattr(settings, part)) is None:
        return []
    try:
        entries = read_list(Path(name)) if is_list_file(name) else layout.entries(name)
    except UserError as error:
        problems.append(f"{error}, or set dataset.{part} to null" if part == "unlabelled" else str(error))
        return []
    samples = [replace(layout.sample(entry), decoding=settings.decoding) for entry in entries]
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            problems.append(f"{sample.id} is on the {part} list twice: list each image once")
        seen.add(sample.id)
    return samples


def _without_missing_mask(sample: FileSample) -> FileSample:
    """Published lists of unlabelled images name masks as well; none has to be there."""
    return replace(sample, mask=None) if sample.mask and not is_file(sample.mask) else sample


def _unused(parts: _Parts, dataset: Dataset) -> list[str]:
    """Unlabelled images whose masks are not used, though their lists or layout name them."""
    pairs = zip(parts["unlabelled"], dataset.unlabelled, strict=True)
    return [listed.id for listed, sample in pairs if listed.mask and not sample.has_mask]


def _without_masks(parts: _Parts, ids: Collection[str]) -> _Parts:
    bare = (replace(sample, mask=None) if sample.id in ids else sample for sample in parts["unlabelled"])
    return parts | {"unlabelled": tuple(bare)}


def _overlaps(parts: _Parts) -> Iterable[str]:
    for judging in _JUDGING:
        ids = {sample.id for sample in parts.get(judging, ())}
        for part in _before(judging):
            for sample in parts[part]:
                if sample.id in ids:
                    yield f"{sample.id} is in both {part} and {judging}: each image has one part"


def _copies(readings: dict[str, list[Reading]]) -> Iterable[str]:
    """Images of a part whose files equal those of images with other ids by which it is judged."""
    for judging in _JUDGING:
        judged = {reading.image_sum: reading.sample for reading in readings.get(judging, ()) if reading.image_sum}
        for part in _before(judging):
            for reading in readings[part]:
                twin = judged.get(reading.image_sum)
                if twin and twin.id != reading.sample.id:
                    yield (
                        f"{reading.sample.image} ({part}) and {twin.image} ({judging}) are the same image: "
                        f"take one of them off its list"
                    )


def _disagreements(layout: Layout, readings: dict[str, list[Reading]]) -> Iterable[str]:
    """Masks that are learnt or judged by and contradict each other, or the colours of VOC's own classes."""
    masks = [
        (reading.sample.mask, reading.mask)
        for part in readings
        for reading in (readings[part] if part != "unlabelled" else ())
        if reading.sample.mask and reading.mask
    ]
    colours = layout.palette or (voc_palette(len(VOC_CLASSES)) if layout.classes == VOC_CLASSES else ())
    numbers = colour_numbers(np.array(colours, np.uint8).reshape(-1, 3)).tolist()
    return disagreements(masks, {number: id for id, number in enumerate(numbers)})


def _turned(readings: dict[str, list[Reading]]) -> Iterable[str]:
    """Images whose size does not show that they are turned, beside masks that never are."""
    found = [each.sample for part in readings.values() for each in part if each.mask and each.orientation in (2, 3, 4)]
    if found:
        yield (
            f"{len(found)} images with masks are turned by 180 degrees or mirrored as their EXIF data say, such as "
            f"{found[0].image}, and their masks are not: look whether they fit, or set "
            f"dataset.orientation to ignore"
        )


def _before(judging: str) -> tuple[str, ...]:
    """The parts that a part of images must have nothing in common with."""
    return ("labelled", "unlabelled", *_JUDGING[: _JUDGING.index(judging)])


def _digest(settings: DatasetSettings, layout: Layout, readings: dict[str, list[Reading]]) -> str:
    digest = hashlib.sha256(repr((layout.classes, settings.ignore_index)).encode())
    if settings.decoding != PLAIN:
        digest.update(repr(settings.decoding).encode())
    for part in readings:
        # Of what no training reads no result depends.
        for reading in readings[part] if part != "test" else ():
            digest.update(f"{part}/{reading.sample.id}".encode())
            digest.update(reading.sample.coding.described.encode())
            if reading.mask and reading.mask.is_mapped:
                digest.update(b"by colour")
            digest.update(reading.image_sum + reading.mask_sum)
    return digest.hexdigest()


def _dataset(settings: DatasetSettings, layout: Layout, parts: _Parts, digest: str, notes: tuple[str, ...]) -> Dataset:
    first = next(sample.mask for samples in parts.values() for sample in samples if sample.mask)
    return Dataset(
        labelled=parts["labelled"],
        unlabelled=parts["unlabelled"],
        validation=parts["validation"],
        test=parts.get("test", ()),
        classes=layout.classes,
        palette=complete_palette(layout.palette or tuple(read_palette(first) or ()), len(layout.classes)),
        ignore_index=settings.ignore_index,
        decoding=settings.decoding,
        digest=digest,
        notes=notes,
    )


def choose(count: int, fraction: float, seed: int, order: Sequence[int] | None = None) -> list[int]:
    """The indices, rising, of the share of `count` images whose masks are trained on; always at least one.

    They are the first of `order`, or else of a permutation that the seed alone determines, so a smaller
    fraction is part of a larger one. (The permutation sorts raw words of Philox, Salmon et al. 2011, which NumPy
    keeps the same from version to version.)
    """
    if order is None:
        words = np.array(np.random.Philox(key=[seed, 0]).random_raw(count))
        order = [int(index) for index in words.argsort(kind="stable")]
    return sorted(order[: max(1, round(fraction * count))])
