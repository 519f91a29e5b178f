"""Whether the masks of a dataset mean the same by the same indices, greys and colours."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from .images import colour_of
from .masks import DecodedMask

REMEDY = "save them with one palette; or name in a classes.yaml in dataset.root each class's colour, or its value"


def disagreements(masks: Sequence[tuple[Path, DecodedMask]], named: Mapping[int, int]) -> Iterator[str]:
    """What masks say otherwise than others of their dataset, or than the numbers of the classes' colours."""
    yield from contradictions(((path, mask.palette) for path, mask in masks), named)
    in_colour = next((path for path, mask in masks if mask.by_colour), None)
    if in_colour:
        yield from _beside_colours(masks, in_colour)
    elif not any(mask.grey == "ids" for _, mask in masks):
        yield from _greys(masks, "no other mask tells which")


def contradictions(palettes: Iterable[tuple[Path, Mapping[int, int]]], named: Mapping[int, int]) -> Iterator[str]:
    """Palettes, the colours of indices, of which one gives an index or a colour another meaning than one before it."""
    colour_by_index: dict[int, tuple[int, Path | None]] = {}
    index_by_colour: dict[int, tuple[int, Path | None]] = {colour: (index, None) for colour, index in named.items()}
    found, more = None, 0
    for path, palette in palettes:
        wrong = None
        for index, colour in palette.items():
            known_colour, known_index = colour_by_index.get(index), index_by_colour.get(colour)
            if known_index and known_index[0] != index:
                wrong = f"{_said(path, index, colour)}, but {_said(known_index[1], known_index[0], colour)}"
            elif known_colour and known_colour[0] != colour:
                wrong = f"{_said(path, index, colour)}, but {_said(known_colour[1], index, known_colour[0])}"
        if wrong:
            more += found is not None
            found = found or wrong
        else:
            colour_by_index |= {index: (colour, path) for index, colour in palette.items()}
            index_by_colour |= {colour: (index, path) for index, colour in palette.items()}
    if found:
        others = f" (and {more} more masks contradict others)" if more else ""
        yield f"{found}{others}: {REMEDY}"


def _beside_colours(masks: Sequence[tuple[Path, DecodedMask]], in_colour: Path) -> Iterator[str]:
    """Masks whose numbers were taken for ids, though those of other masks were not."""
    nameless = [path for path, mask in masks if mask.palette and not mask.is_named]
    if nameless:
        yield (
            f"{_all(nameless)} a palette with colours that classes.yaml does not name, though in others, such as "
            f"{in_colour}, colours count: name them there, or each class's value if indices count"
        )
    yield from _greys(masks, f"in others, such as {in_colour}, colours count")


def _greys(masks: Sequence[tuple[Path, DecodedMask]], reason: str) -> Iterator[str]:
    either = [path for path, mask in masks if mask.grey == "either"]
    if either:
        yield (
            f"{_all(either)} greys that are class ids or the ignore index as numbers, but other classes by their "
            f"colours in classes.yaml, and {reason}: name there the value of each class, as in "
            f"{{name: object, value: 255}}"
        )


def _all(paths: Sequence[Path]) -> str:
    return f"{paths[0]} has" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more masks have"


def _said(path: Path | None, index: int, colour: int) -> str:
    who = f"the palette of {path}" if path else "the classes"
    return f"{who} gives index {index} the colour {list(colour_of(colour))}".replace("classes gives", "classes give")
