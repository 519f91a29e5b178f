"""A dataset: which images have masks, which have none, which validate."""

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from ...models.settings import Interval, Settings
from ..errors import UserError, listed
from .classes import complete_palette
from .images import Colour, is_file, read_palette
from .layouts import LAYOUTS, TREES, Layout
from .lists import is_list_file, read_list, read_order
from .readings import PartCensus, Reading, Rules, census, read_samples
from .samples import FileSample, Sample
from .splits import choose

log = logging.getLogger(__name__)

SHOWN_PROBLEMS = 20


class DatasetError(UserError):
    """What is wrong with a dataset, a line for each problem."""


@dataclass(frozen=True, kw_only=True)
class DatasetSettings(Settings):
    """Where a dataset lies and which of its lists play which part.

    A list with a slash or ending in .txt or .pkl is a file, anything else a name among the layout's own lists.
    """

    layout: Literal["voc", "cityscapes", "folder"] = "voc"
    """What tree lies in `root`: that of PASCAL VOC, of Cityscapes, or folders images/ and masks/."""
    root: Path
    pack: Path | None = None
    """Folder that `advseg data pack` wrote of this dataset; read instead of `root`'s files, which need not be there."""
    labelled: str = "labelled"
    """List of the images whose masks are trained on."""
    unlabelled: str | None = "unlabelled"
    """List of the images whose masks, if there are any, are never trained on; None if `fraction` alone leaves some.
    Images of the labelled list do not count here."""
    validation: str = "val"
    fraction: Annotated[float, Interval(0, 1, open_low=True)] = 1.0
    """Share of the labelled list whose masks are trained on, rounded to whole images; the rest is unlabelled."""
    split_seed: Annotated[int, Interval(0, 2**63, open_high=True)] = 0
    """Draws which ones."""
    order: str | None = None
    """A file that ranks the indices of the labelled list, from 0, instead of a draw; the fraction takes the first."""
    classes: tuple[str, ...] = ()
    """Names in the order of the class ids from 0; by default the layout's: VOC's, Cityscapes' or of classes.yaml."""
    ignore_index: Annotated[int, Interval(0, 65535)] = 255
    """Id of pixels that count nowhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes and (len(self.classes) < 2 or len(set(self.classes)) < len(self.classes)):
            raise ValueError(f"classes must be two or more different names, but are {', '.join(self.classes)}")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The samples of every part, checked. `digest` names their contents."""

    labelled: tuple[Sample, ...]
    unlabelled: tuple[Sample, ...]
    """May be empty."""
    validation: tuple[Sample, ...]
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_index: int
    digest: str

    @property
    def parts(self) -> dict[str, tuple[Sample, ...]]:
        """The samples of labelled, unlabelled and validation, by these names and in this order."""
        return {"labelled": self.labelled, "unlabelled": self.unlabelled, "validation": self.validation}


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All that reading a dataset shows."""

    dataset: Dataset | None
    """None if there are problems."""
    problems: tuple[str, ...]
    classes: tuple[str, ...]
    """Empty if they cannot be told."""
    parts: dict[str, PartCensus]
    """Of labelled, unlabelled and validation; empty if the folder is none of the layout."""
    notes: tuple[str, ...]
    """What is no problem but worth knowing."""


def open_dataset(settings: DatasetSettings) -> Dataset:
    """Read every file of a dataset once, check it and take its digest; or open its pack, without reading a pixel.

    Raises DatasetError that lists the problems.
    """
    if settings.pack is not None:
        # It imports PyArrow, which takes a sixth of a second.
        from .pack import open_pack

        return open_pack(settings.pack, settings)
    inspection = inspect_dataset(settings)
    if inspection.dataset is None:
        raise DatasetError(listed(inspection.problems, f"dataset {settings.root}", SHOWN_PROBLEMS))
    for note in inspection.notes:
        log.info("dataset %s: %s", settings.root, note)
    return inspection.dataset


def inspect_dataset(settings: DatasetSettings) -> Inspection:
    """Read every file of a dataset, or of its pack, once and tell all that is wrong with it.

    Problems are: another tree than the layout's, lists that are missing, empty or name an image twice, missing
    files, broken images, sizes that differ, class ids and colours out of range, masks missing where they are
    needed, an image or a copy of it both in validation and in training. A pack is damaged, or of other settings.
    """
    if settings.pack is not None:
        from .pack import inspect_pack

        return inspect_pack(settings.pack, settings)
    try:
        layout = _open_layout(settings)
    except UserError as error:
        return Inspection(dataset=None, problems=(str(error),), classes=(), parts={}, notes=())
    problems, notes = list(layout.problems), []
    parts = _parts(settings, layout, problems, notes)
    problems += _overlaps(parts)
    rules = Rules(classes=len(layout.classes), ignore_index=settings.ignore_index, maskless=layout.maskless)
    readings = {part: read_samples(samples, rules, masks=part != "unlabelled") for part, samples in parts.items()}
    problems += [problem for part in parts for reading in readings[part] for problem in reading.problems]
    problems += _copies(readings)
    problems = list(dict.fromkeys(problems))
    return Inspection(
        dataset=None if problems else _dataset(settings, layout, parts, readings),
        problems=tuple(problems),
        classes=layout.classes,
        parts={
            part: census((reading.pixels for reading in readings[part]), rules.classes, rules.ignore_index)
            for part in parts
        },
        notes=tuple(notes),
    )


def _open_layout(settings: DatasetSettings) -> Layout:
    if not settings.root.is_dir():
        raise UserError(
            f"dataset folder {settings.root} does not exist: set dataset.root to where it lies, "
            f"or put {TREES[settings.layout]} there"
        )
    return LAYOUTS[settings.layout](settings.root, settings.classes, settings.ignore_index)


def _parts(
    settings: DatasetSettings, layout: Layout, problems: list[str], notes: list[str]
) -> dict[str, tuple[FileSample, ...]]:
    labelled = _listed(layout, "labelled", settings.labelled, problems)
    unlabelled = _listed(layout, "unlabelled", settings.unlabelled, problems)
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
    return {
        "labelled": tuple(labelled[index] for index in sorted(kept)),
        "unlabelled": tuple(_without_missing_mask(sample) for sample in (*others, *rest)),
        "validation": tuple(_listed(layout, "validation", settings.validation, problems)),
    }


def _listed(layout: Layout, part: str, name: str | None, problems: list[str]) -> list[FileSample]:
    """The samples of a list. What is wrong with it is added to the problems."""
    if name is None:
        return []
    try:
        entries = read_list(Path(name)) if is_list_file(name) else layout.entries(name)
    except UserError as error:
        problems.append(f"{error}, or set dataset.{part} to null" if part == "unlabelled" else str(error))
        return []
    samples = [layout.sample(entry) for entry in entries]
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            problems.append(f"{sample.id} is on the {part} list twice: list each image once")
        seen.add(sample.id)
    return samples


def _without_missing_mask(sample: FileSample) -> FileSample:
    """Published lists of unlabelled images name masks as well; none has to be there."""
    return replace(sample, mask=None) if sample.mask and not is_file(sample.mask) else sample


def _overlaps(parts: dict[str, tuple[FileSample, ...]]) -> Iterable[str]:
    validation = {sample.id for sample in parts["validation"]}
    for part in ("labelled", "unlabelled"):
        for sample in parts[part]:
            if sample.id in validation:
                yield f"{sample.id} is in both {part} and validation: each image has one part"


def _copies(readings: dict[str, list[Reading]]) -> Iterable[str]:
    """Images of a training part whose files equal those of validation images with other ids."""
    judged = {reading.image_sum: reading.sample for reading in readings["validation"] if reading.image_sum}
    for part in ("labelled", "unlabelled"):
        for reading in readings[part]:
            twin = judged.get(reading.image_sum)
            if twin and twin.id != reading.sample.id:
                yield (
                    f"{reading.sample.image} ({part}) and {twin.image} (validation) are the same image: "
                    f"take one of them off its list"
                )


def _dataset(
    settings: DatasetSettings,
    layout: Layout,
    parts: dict[str, tuple[FileSample, ...]],
    readings: dict[str, list[Reading]],
) -> Dataset:
    digest = hashlib.sha256(repr((layout.classes, settings.ignore_index)).encode())
    for part in parts:
        for reading in readings[part]:
            digest.update(f"{part}/{reading.sample.id}".encode())
            if (coding := reading.sample.coding).table or coding.colours:
                digest.update(repr(coding).encode())
            digest.update(reading.image_sum + reading.mask_sum)
    first = parts["labelled"][0].mask
    assert first
    return Dataset(
        labelled=parts["labelled"],
        unlabelled=parts["unlabelled"],
        validation=parts["validation"],
        classes=layout.classes,
        palette=complete_palette(layout.palette or tuple(read_palette(first) or ()), len(layout.classes)),
        ignore_index=settings.ignore_index,
        digest=digest.hexdigest(),
    )
