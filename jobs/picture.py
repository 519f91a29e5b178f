"""One picture to look at: images, their truth, the predictions of several models, and a discriminator's confidence."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..trainers.data.masks import read_mask
from ..trainers.devices import usual_device
from ..trainers.errors import UserError
from ..trainers.pictures.legend import with_legend
from ..trainers.pictures.panels import colour, compose, heat
from ..trainers.prediction import read_scene
from .encoding import Kind
from .outputs import refuse_other_than_file, write_picture
from .predict import load_model, predictions_of
from .scenes import find_images


def picture(out: Path, images: Sequence[Path], truth: Path, models: Mapping[str, Path]) -> None:
    """Write a PNG with a row an image; the confidence is that of the last model with a discriminator.

    `truth` is a folder of masks named as the images are. Raises UserError for what cannot be read.
    """
    refuse_other_than_file(out)
    files = find_images(images)
    loaded = {name: load_model(path, usual_device()) for name, path in models.items()}
    judges = [name for name, model in loaded.items() if model.discriminator]
    titles = ["image", "truth", *loaded, *(["confidence"] if judges else [])]
    card = next(iter(loaded.values())).card
    rows = []
    for file in files:
        image = read_scene(file, card.decoding)
        maps = [read_mask(truth / f"{file.stem}.png")]
        confidence = None
        for name, model in loaded.items():
            wanted = [Kind.CONFIDENCE] if name in judges[-1:] else []
            (found,) = predictions_of(model, image[None], models[name], wanted)
            maps.append(found.mask)
            confidence = found.confidence if wanted else confidence
        row = [image, *(colour(m, card.palette, card.ignore_index) for m in maps)]
        rows.append(row if confidence is None else [*row, heat(confidence)])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_picture(out, with_legend(compose(titles, rows), card.classes, card.palette))


def named_models(models: Sequence[str]) -> dict[str, Path]:
    """Folders of models by the names that they have in a picture, of words of the form NAME=DIR. Raises UserError."""
    named: dict[str, Path] = {}
    for model in models:
        name, equals, path = model.partition("=")
        if not (name and equals and path):
            raise UserError(f"--model {model} must have the form NAME=DIR")
        if name in named:
            raise UserError(f"--model {model} names a second model {name}: give each its own name")
        named[name] = Path(path)
    return named
