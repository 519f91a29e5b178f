"""What a model makes of images."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ...platform.base.home import find_home
from .connections import model_folder
from .models import PANEL
from .options import (
    AsJson,
    Device,
    ModelOrReference,
    Overrides,
    SpecPath,
    check_path,
    check_place,
    check_places,
    overrides,
)

_DIGITS = 12
"""Of a checksum in the name of a folder."""

verbs = typer.Typer()


@verbs.command(rich_help_panel=PANEL)
def evaluate(
    model: ModelOrReference,
    spec: SpecPath,
    set_: Overrides = None,
    to: Annotated[
        Path | None,
        typer.Option(
            callback=check_path,
            metavar="DIR",
            help="Folder of results; by default .advseg/evaluations/<name>/<model>-<its checksum>.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a model by the validation images of a spec's dataset: mean IoU, each class's, a confusion matrix.

    Example: `advseg evaluate shapes@champion jobs/specs/demo.yaml`
    """
    from ...models.manifest import checksum_of
    from ...platform.pages.progress_bar import progress_shown
    from ...platform.spec.spec_file import load_spec
    from .. import evaluate as job

    read = load_spec(spec, overrides(set_))
    with model_folder(model) as path, progress_shown():
        # Every training calls its model the same, and an alias moves.
        name = f"{Path(os.path.realpath(model)).name}-{str(checksum_of(path))[:_DIGITS]}"
        folder = to or find_home() / "evaluations" / read.name / name
        results = job.evaluate_model(path, read, folder)
    if as_json:
        from ...platform.pages.json_line import json_line

        typer.echo(json_line(results))
    else:
        job.print_results(results, folder)


@verbs.command(rich_help_panel=PANEL)
def predict(
    model: ModelOrReference,
    images: Annotated[
        list[str],
        typer.Argument(
            callback=check_places,
            metavar="IMAGE...",
            help="Images, folders with all in them, s3://bucket/prefix, or patterns in quotes, as 'photos/**/*.jpg'.",
        ),
    ],
    to: Annotated[
        str, typer.Option(callback=check_place, metavar="PLACE", help="Folder for the masks, or s3://bucket/prefix.")
    ],
    averaged: Annotated[
        bool,
        typer.Option("--averaged", help="Average over the scales and directions of its trainer.evaluation."),
    ] = False,
    overlay: Annotated[
        bool,
        typer.Option("--overlay", help="Beside each mask NAME.overlay.png: the image in its colours, a legend."),
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Beside each mask NAME.npz: class probabilities, for numpy.load.")
    ] = False,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Beside each mask NAME.confidence.png: the discriminator's, 0 to 255.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that predict did not write, or that were changed since.")
    ] = False,
    device: Device = None,
    batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Images of the same size that go through the network together.")
    ] = 1,
) -> None:
    """Write a palette PNG of class ids for every image, read as those were by which the model was judged.

    Below a folder, a prefix, and the fixed part of a pattern, masks keep the folders of their images. Masks that are
    there of the same model and image stay: killed and asked again, it goes on.

    Example: `advseg predict shapes@champion photos --to masks --overlay`
    """
    from ...platform.pages.progress_bar import progress_shown
    from ...trainers.errors import PreemptedError
    from ..encoding import Kind
    from ..predict import predict as predict_masks

    wanted = {Kind.OVERLAY: overlay, Kind.PROBABILITIES: probabilities, Kind.CONFIDENCE: confidence}
    try:
        with model_folder(model) as path, progress_shown():
            done = predict_masks(
                path,
                images,
                to,
                beside=[kind for kind in wanted if wanted[kind]],
                averaged=averaged,
                overwrite=overwrite,
                device=device,
                batch=batch,
            )
    except KeyboardInterrupt:
        raise PreemptedError("masks that are written stay") from None
    there = len(done.masks) - done.new
    rest = f", and {there} of the same model and image {'was' if there == 1 else 'were'} there" if there else ""
    typer.echo(f"{done.new} {'mask' if done.new == 1 else 'masks'} written to {to}{rest}")


@verbs.command(rich_help_panel=PANEL)
def picture(
    out: Annotated[Path, typer.Argument(callback=check_path, metavar="OUT", help="The PNG to write.")],
    images: Annotated[
        list[Path],
        typer.Option(callback=check_path, metavar="IMAGE", help="An image, or a folder of images. Repeatable."),
    ],
    truth: Annotated[
        Path, typer.Option(callback=check_path, metavar="DIR", help="Folder of masks named as the images are.")
    ],
    model: Annotated[list[str], typer.Option(metavar="NAME=DIR", help="A model folder and its title. Repeatable.")],
) -> None:
    """Draw images, truth, predictions of several models and a discriminator's confidence side by side.

    Example: `advseg picture out.png --images photographs --truth masks --model ours=champion`
    """
    from ..picture import named_models
    from ..picture import picture as draw

    draw(out, images, truth, named_models(model))
    typer.echo(f"picture written to {out}")
