"""A first classes.yaml for a user's own masks."""

from collections.abc import Iterator
from pathlib import Path

from ..trainers.data.found_classes import FoundClass, FoundClasses

_BLACK = (0, 0, 0)


def first_classes(found: FoundClasses, masks: int) -> str:
    """The text of a classes.yaml of the classes of so many masks."""
    return "".join(f"{line}\n" for line in _lines(found, masks))


def said_of_contour(contour: FoundClass, file: Path) -> str:
    """That a colour is ignored by a guess."""
    return (
        f"colour {list(contour.colour)}, {_share(contour.share)} of the masks' pixels, is ignored: a guess, as it only "
        f"runs between others, in thin lines; is it a class, take `ignore: true` away from it in {file}"
    )


def _lines(found: FoundClasses, masks: int) -> Iterator[str]:
    yield "# The classes, in the order of their ids from 0. Give them names, each its own."
    yield "# Colours are those of RGB masks, and of pictures. One that stands for nothing known (void, unlabelled;"
    yield "# often black) takes `ignore: true`: its pixels count nowhere, and it takes no id."
    commonest = max(each.share for each in found.classes)
    for id, each in enumerate(found.classes):
        asked = found.by_colour and each.colour == _BLACK and each.share < commonest
        question = "; is it void? then add `ignore: true`" if asked else ""
        yield f"- {{name: class_{id}, colour: {list(each.colour)}}} # {_held(each, masks)}{question}"
    if found.contour:
        yield "# A guess: this colour only runs between others, in thin lines. Is it a class, take `ignore: true` away."
        yield f"- {{name: contour, colour: {list(found.contour.colour)}, ignore: true}} # {_held(found.contour, masks)}"


def _held(each: FoundClass, masks: int) -> str:
    if not each.masks:
        return "no mask holds it"
    return f"{_share(each.share)} of the pixels, on {each.masks} of {masks} masks"


def _share(part: float) -> str:
    """A share in percent."""
    return f"{100 * part:.1f} %" if part >= 0.001 else "under 0.1 %"
