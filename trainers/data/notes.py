"""What a dataset's masks hold too little of, for whoever begins a training on it."""

from collections.abc import Iterator, Mapping, Sequence

from .readings import PartCensus

FEW = 20
"""Images below which a figure of a validation hangs on each one."""


def notes_on_masks(parts: Mapping[str, PartCensus], classes: Sequence[str]) -> Iterator[str]:
    """Parts whose pixels are all ignored, classes that no mask holds, and a validation of few images.

    Nothing where the classes are not known.
    """
    if not classes:
        return
    for name, part in parts.items():
        if name != "unlabelled" and part.ignored and not part.pixels.any():
            yield f"all pixels of the {name} masks are ignored: nothing can be learnt or measured by them"
    learnt = _absent(parts, "labelled", classes)
    if learnt:
        yield f"no labelled mask holds {', '.join(learnt)}: what is not seen is not learnt"
    if unseen := [name for name in _absent(parts, "validation", classes) if name not in learnt]:
        yield f"no validation mask holds {', '.join(unseen)}: how well it is found is not measured"
    if (judging := parts.get("validation")) and 0 < judging.images < FEW:
        yield few_note(judging.images)


def few_note(images: int) -> str:
    """That so many images are few to validate by."""
    return f"{images} images validate, fewer than {FEW}: figures of so few hang on each image"


def _absent(parts: Mapping[str, PartCensus], name: str, classes: Sequence[str]) -> list[str]:
    part = parts.get(name)
    if part is None or not part.masks or not part.pixels.any():
        return []
    return [each for each, pixels in zip(classes, part.pixels.tolist(), strict=True) if not pixels]
