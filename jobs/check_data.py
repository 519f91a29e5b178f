"""All that is wrong with a spec's dataset, what its masks hold, and a picture of samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from ..models.resize import size_of
from ..platform.pages.console import VisibleConsole, words
from ..platform.pages.shortened import Shortened
from ..platform.spec.spec import Spec
from ..platform.storage.packs import inspect_dataset
from ..trainers.data.dataset import Dataset
from ..trainers.data.images import Colour
from ..trainers.data.readings import PartCensus
from ..trainers.data.scaled import other_resize
from ..trainers.errors import UserError, listed
from ..trainers.pictures.overview import draw_overview
from ..trainers.recipe import TrainerSettings
from .outputs import write_picture

_EXACT = 10_000_000
"""Pixels from which on they are given in millions."""
_NAME = 8
"""Characters of a class that are always shown."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What a spec's dataset holds and what is wrong with it."""

    place: Path | str
    """The folder that was read."""
    digest: str | None
    """None if anything is wrong."""
    classes: Sequence[str]
    palette: Sequence[Colour]
    parts: Mapping[str, PartCensus]
    """As far as they could be read."""
    notes: Sequence[str]
    problems: Sequence[str]
    picture: Path | None
    """None if anything is wrong."""


def check(spec: Spec, picture: Path) -> Check:
    """Read every file of a spec's dataset; if nothing is wrong with it, write a picture of samples."""
    inspection = inspect_dataset(spec.dataset)
    dataset, notes, problems = inspection.dataset, list(inspection.notes), inspection.problems
    if dataset and (other := other_resize(dataset.resized, spec.trainer.resize)):
        dataset, problems = None, (other,)
    if dataset:
        notes += notes_on_crop(dataset, spec.trainer)
        settings = spec.trainer
        overview = draw_overview(dataset, settings.augmentation, seed=settings.seed, resize=settings.resize)
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_picture(picture, overview)
    return Check(
        place=spec.dataset.pack or spec.dataset.root,
        digest=dataset.digest if dataset else None,
        classes=inspection.classes,
        palette=dataset.palette if dataset else (),
        parts=inspection.parts,
        notes=notes,
        problems=problems,
        picture=picture if dataset else None,
    )


def print_check(check: Check) -> None:
    """What could be read, as a table, and notes. Raises UserError that lists everything that is wrong."""
    if check.parts:
        VisibleConsole().print(census_table(check.parts, check.classes, check.palette))
    for note in check.notes:
        print(f"note: {note}")
    refuse_problems(check)
    print(f"nothing is wrong; picture of samples in {check.picture}")


def refuse_problems(check: Check) -> None:
    """Raise UserError that lists everything that is wrong, if anything is."""
    if check.problems:
        raise UserError(listed(check.problems, f"dataset {check.place}"))


def check_json(check: Check) -> dict[str, Any]:
    """The same; pixels are those of the masks that are known, and by class."""
    return {
        "dataset": str(check.place),
        "digest": check.digest,
        "parts": {
            name: {
                "images": part.images,
                "masks": part.masks,
                "pixels": dict(zip(check.classes, part.pixels.tolist(), strict=True)),
                "ignored_pixels": part.ignored,
            }
            for name, part in check.parts.items()
        },
        "notes": check.notes,
        "problems": check.problems,
        "picture": None if check.picture is None else str(check.picture),
    }


def census_table(parts: Mapping[str, PartCensus], classes: Sequence[str], palette: Sequence[Colour]) -> Table:
    """Images and masks of each part; pixels of each class and their share in known ones, and of ignored ones in all."""
    table = Table(title="pixels in the masks, and their share in percent", title_justify="left")
    table.add_column("")
    for part in parts:
        table.add_column(part, justify="right", no_wrap=True)
    table.add_row("images", *(str(part.images) for part in parts.values()))
    table.add_row("masks", *(str(part.masks) for part in parts.values()), end_section=True)
    for id, name in enumerate(classes):
        patch = [("██ ", "rgb({},{},{})".format(*palette[id]))] if palette else []
        heading = Text.assemble(*patch, words(name))
        shares = (_share(int(part.pixels[id]), int(part.pixels.sum())) for part in parts.values())
        table.add_row(Shortened(heading, least=_NAME), *shares, end_section=id == len(classes) - 1)
    totals = {name: int(part.pixels.sum()) + part.ignored for name, part in parts.items()}
    table.add_row("ignored", *(_share(part.ignored, totals[name]) for name, part in parts.items()))
    return table


def _share(pixels: int, total: int) -> str:
    if not total:
        return "-"
    count = f"{pixels:,}" if pixels < _EXACT else f"{pixels / 1e6:,.1f} M"
    return f"{count}  {100 * pixels / total:5.2f}" if pixels else "none"


def notes_on_crop(dataset: Dataset, trainer: TrainerSettings) -> Iterator[str]:
    """A crop that is mostly padding."""
    crop, factor = trainer.augmentation.crop, sum(trainer.augmentation.scale) / 2
    samples = [*dataset.labelled, *dataset.unlabelled]
    sizes = [size_of(trainer.resize, sample.read_size()) for sample in samples]
    smaller = sum(any(factor * side < wanted for side, wanted in zip(size, crop, strict=True)) for size in sizes)
    if 2 * smaller > len(sizes):
        yield (
            f"the crop of {crop[0]} x {crop[1]} is larger than {smaller} of {len(sizes)} training images, which are "
            f"padded: lower trainer.augmentation.crop"
        )
