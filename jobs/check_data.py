"""All that is wrong with a spec's dataset, what its masks hold, and a picture of samples.

`advseg data check` runs it as `python -m advseg.jobs.check_data SPEC [--set KEY=VALUE] [--picture FILE]`.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..platform.base.exits import exit_status
from ..platform.base.home import find_home
from ..platform.spec.spec import Spec
from ..platform.spec.spec_file import load_spec
from ..trainers.data.dataset import Dataset
from ..trainers.data.images import Colour
from ..trainers.data.opening import inspect_dataset
from ..trainers.data.readings import PartCensus
from ..trainers.errors import UserError, listed
from ..trainers.pictures.overview import draw_overview
from ..trainers.recipe import TrainerSettings


def census_table(parts: Mapping[str, PartCensus], classes: Sequence[str], palette: Sequence[Colour]) -> Table:
    """Images and masks of each part; pixels of each class and their share in known ones, and of ignored ones in all."""
    table = Table(title="pixels in the masks, and their share in percent", title_justify="left")
    table.add_column("")
    for part in parts:
        table.add_column(part, justify="right")
    table.add_row("images", *(str(part.images) for part in parts.values()))
    table.add_row("masks", *(str(part.masks) for part in parts.values()), end_section=True)
    for id, name in enumerate(classes):
        heading = Text.assemble(("██ ", "rgb({},{},{})".format(*palette[id])), name) if palette else Text(name)
        shares = (_share(int(part.pixels[id]), int(part.pixels.sum())) for part in parts.values())
        table.add_row(heading, *shares, end_section=id == len(classes) - 1)
    totals = {name: int(part.pixels.sum()) + part.ignored for name, part in parts.items()}
    table.add_row("ignored", *(_share(part.ignored, totals[name]) for name, part in parts.items()))
    return table


def _share(pixels: int, total: int) -> str:
    if not total:
        return "-"
    return f"{pixels:,}  {100 * pixels / total:5.2f}" if pixels else "none"


def notes_on_classes(labelled: PartCensus, classes: Sequence[str]) -> Iterator[str]:
    """Classes that cannot be learnt."""
    absent = [name for name, pixels in zip(classes, labelled.pixels.tolist(), strict=True) if not pixels]
    if labelled.masks and absent:
        yield f"no labelled mask holds {', '.join(absent)}: what is not seen is not learnt"


def notes_on_crop(dataset: Dataset, trainer: TrainerSettings) -> Iterator[str]:
    """A crop that is mostly padding."""
    crop, factor = trainer.augmentation.crop, sum(trainer.augmentation.scale) / 2
    samples = [*dataset.labelled, *dataset.unlabelled]
    sizes = [trainer.resize or sample.read_size() for sample in samples]
    smaller = sum(any(factor * side < wanted for side, wanted in zip(size, crop, strict=True)) for size in sizes)
    if 2 * smaller > len(sizes):
        yield (
            f"the crop of {crop[0]} x {crop[1]} is larger than {smaller} of {len(sizes)} training images, which are "
            f"padded: lower trainer.augmentation.crop"
        )


def check(spec: Spec, picture: Path) -> None:
    """Print what the dataset of a spec holds and write a picture of it.

    Raises UserError that lists everything that is wrong; the table is then of what could be read.
    """
    inspection = inspect_dataset(spec.dataset)
    dataset, notes = inspection.dataset, list(inspection.notes)
    if inspection.parts:
        palette = dataset.palette if dataset else ()
        Console().print(census_table(inspection.parts, inspection.classes, palette))
        notes += notes_on_classes(inspection.parts["labelled"], inspection.classes)
    if dataset:
        notes += notes_on_crop(dataset, spec.trainer)
    for note in notes:
        print(f"note: {note}")
    if dataset is None:
        raise UserError(listed(inspection.problems, f"dataset {spec.dataset.pack or spec.dataset.root}"))
    settings = spec.trainer
    overview = draw_overview(dataset, settings.augmentation, seed=settings.seed, resize=settings.resize)
    picture.parent.mkdir(parents=True, exist_ok=True)
    overview.save(picture, format="PNG")
    print(f"nothing is wrong; picture of samples in {picture}")


def main(arguments: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="advseg data check", description=__doc__)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    asked = parser.parse_args(arguments)
    spec = load_spec(asked.spec, asked.overrides)
    check(spec, asked.picture or find_home() / "checks" / f"{spec.name}.png")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
