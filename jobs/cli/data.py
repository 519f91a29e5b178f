"""Datasets."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ...platform.base.home import find_home
from .options import AsJson, Overrides, SpecPath, check_path, check_place, overrides

PANEL = "Data"
data = typer.Typer(help="Begin with your own images, check and pack a dataset, write a synthetic one.")


@data.command()
def init(
    folder: Annotated[
        Path, typer.Argument(callback=check_path, help="A folder with images/ and, of the same names, masks in masks/.")
    ],
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed, other validation images.")] = 0,
    scale: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="LOW HIGH", help="Values that become black and white, of images with 16 bits a channel."),
    ] = None,
    orientation: Annotated[
        Literal["exif", "ignore"],
        typer.Option(
            metavar="exif|ignore", help="Whether images, and masks in TIFF, are turned as their EXIF data say."
        ),
    ] = "exif",
) -> None:
    """Write a first spec for your own images and this machine, with class names and lists. What is there is kept.

    Example: `advseg data init leaves`
    """
    from ...models.decoding import Decoding
    from ...platform.base.interrupted import interrupted_by_signals
    from ...platform.pages.progress_bar import progress_shown
    from ...trainers.errors import UserError
    from ..init_data import init_data

    try:
        decoding = Decoding(scale=scale, orientation=orientation)
    except ValueError as error:
        raise UserError(f"--{error}") from None
    with interrupted_by_signals(), progress_shown():
        said = init_data(folder, seed, decoding)
    typer.echo("\n".join(said))


@data.command()
def check(
    spec: SpecPath,
    set_: Overrides = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            callback=check_path, metavar="FILE", help="The PNG to write; by default .advseg/checks/<name>.png."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read every file of a spec's dataset, list all that is wrong, count pixels by class, and draw samples.

    Example: `advseg data check leaves/advseg.yaml`
    """
    from ...platform.pages.progress_bar import progress_shown
    from ...platform.spec.spec_file import load_spec
    from .. import check_data

    # They may lie where it trains alone.
    read = load_spec(spec, [*overrides(set_), "model.weights=null"])
    with progress_shown():
        checked = check_data.check(read, picture or find_home() / "checks" / f"{read.name}.png")
    if as_json:
        from ...platform.pages.json_line import json_line

        typer.echo(json_line(check_data.check_json(checked)))
        check_data.refuse_problems(checked)
    else:
        check_data.print_check(checked)


@data.command()
def pack(
    spec: SpecPath,
    place: Annotated[str, typer.Argument(callback=check_place, help="Folder to write, or s3://bucket/prefix.")],
    resized: Annotated[
        bool, typer.Option("--resized", help="Training images at the spec's trainer.resize, for trainings of it alone.")
    ] = False,
    set_: Overrides = None,
) -> None:
    """Decode a spec's dataset once; `dataset.pack` reads it from there.

    Example: `advseg data pack voc.yaml packs/voc`
    """
    from ...platform.pages.progress_bar import progress_shown
    from ..pack_data import pack_data

    with progress_shown():
        told = pack_data(spec, overrides(set_), place, at_resize=resized)
    typer.echo("\n".join(told))


@data.command()
def shapes(
    folder: Annotated[Path, typer.Argument(callback=check_path, help="Folder to write.")],
    labelled: Annotated[int, typer.Option(metavar="N", help="Training images with masks.")] = 50,
    unlabelled: Annotated[int, typer.Option(metavar="N", help="Training images whose masks are not trained on.")] = 750,
    val: Annotated[int, typer.Option(metavar="N", help="Validation images.")] = 200,
    test: Annotated[int, typer.Option(metavar="N", help="Test images.")] = 6,
    size: Annotated[int, typer.Option(metavar="N", help="Height and width in pixels.")] = 48,
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed, other scenes.")] = 0,
) -> None:
    """Write the synthetic dataset `shapes` in the PASCAL VOC layout.

    Example: `advseg data shapes .advseg/data/shapes --labelled 100`
    """
    from ...trainers.data.shapes import ShapesSettings, write_shapes
    from ...trainers.errors import UserError

    try:
        settings = ShapesSettings(labelled=labelled, unlabelled=unlabelled, val=val, test=test, size=size, seed=seed)
    except ValueError as error:
        raise UserError(f"--{error}") from None
    written = write_shapes(folder, settings)
    count = labelled + unlabelled + val + test
    typer.echo(f"{count} images of {size} x {size} {'written to' if written else 'lie already in'} {folder}")
