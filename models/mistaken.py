"""What people name where a model is to be: told by what it is, with what to name instead."""

from itertools import islice
from pathlib import Path

from .manifest import MANIFEST, BrokenDirectoryError

CARD = "model.json"
_IMAGES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
_LOOKED_AT = 1000
"""Files of a folder, which may be a whole disk."""
_FIRST = "the model comes first: its folder, or its registered name, as in shapes@champion"


class MistakenError(BrokenDirectoryError):
    """Something else than a model was named; the message says what to name instead."""


def refuse_mistaken(path: Path) -> None:
    """Raise MistakenError for what is there and plainly no model, whole or damaged."""
    if path.is_file():
        if path.suffix.lower() in _IMAGES:
            raise MistakenError(f"{path} is an image, not a model: {_FIRST}")
        raise MistakenError(f"{path} is a file, but a model is a folder with {CARD}: name {_folder_of(path)}")
    if not path.is_dir() or (path / CARD).exists():
        return
    if model := next((place for place in (path / "model", path.parent.parent / "model") if _is_model(place)), None):
        raise MistakenError(f"{path} is a training's, not its model: name {model}")
    if (path / MANIFEST).exists():
        # Of a training that has not ended, or another thing that is whole.
        return
    if any(file.suffix.lower() in _IMAGES for file in islice(path.rglob("*"), _LOOKED_AT)):
        raise MistakenError(f"{path} is a folder of images, not a model: {_FIRST}")
    raise MistakenError(f"{path} is a folder without {CARD}, so no model: name one that was pulled or trained")


def is_model(name: str) -> bool:
    """Whether that names a model: a folder of one, or what may be a registered one's name."""
    path = Path(name)
    return _is_model(path) or ("@" in name and not path.exists())


def _is_model(path: Path) -> bool:
    return (path / CARD).is_file() and (path / MANIFEST).is_file()


def _folder_of(file: Path) -> str:
    """What to name instead of a file: its folder, where that is a model's."""
    return str(file.parent) if _is_model(file.parent) else "that folder"
