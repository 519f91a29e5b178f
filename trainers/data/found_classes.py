"""What the masks of a user's folder tell of their classes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ..errors import UserError
from .agreement import contradictions
from .contours import MaskCourses, contour_among
from .images import IGNORE_INDEX, Colour, colour_of, voc_palette
from .masks import read_palette
from .survey import MAX_COLOURS, Pair

NEAR = 8
"""Colours that differ by less in each channel are hardly chosen for two classes."""
_SHOWN_GREYS = 8
_WHITE = 0xFFFFFF


@dataclass(frozen=True, kw_only=True)
class FoundClass:
    """A class, or what is none, and how much of the masks it has."""

    colour: Colour
    share: float
    """Of all their pixels."""
    masks: int
    """That hold it; an id below the highest one may be on none."""


@dataclass(frozen=True, kw_only=True)
class FoundClasses:
    """What the masks tell of their classes."""

    classes: tuple[FoundClass, ...]
    """From id 0, of different colours."""
    by_colour: bool = False
    """Whether the masks are read by their colours, and not by ids."""
    contour: FoundClass | None = None
    """A colour that only runs between the others, and is hardly a class."""


def find_classes(pairs: Sequence[Pair]) -> FoundClasses:
    """The classes of masks in colour by their colours, of others by their ids; the ignore index is no class.

    Colours also count of palettes that contradict each other, and of palettes and greys beside masks in colour.
    Raises UserError if there are fewer than two classes, too many colours, greys that are hardly class ids, or masks
    of ids beside masks in colour.
    """
    in_colour = next((pair for pair in pairs if pair.kind == "colour"), None)
    palettes = [(pair.mask, pair.palette) for pair in pairs if pair.kind == "palette"]
    if in_colour or next(contradictions(palettes, {}), None):
        told = {colour for pair in pairs if pair.kind != "grey" for colour in pair.colours}
        for pair in pairs:
            if not pair.colours or (pair.kind == "grey" and not told.issuperset(pair.colours)):
                other = in_colour or next(pair for pair in pairs if pair.palette)
                raise UserError(f"mask {other.mask} holds colours, but {pair.mask} class ids: convert either")
        return _classes_of_colours(sorted(told), pairs)
    ids = sorted({value for pair in pairs for value in pair.values})
    palette = next((pair for pair in pairs if pair.palette), None)
    if palette is None:
        _refuse_two_whites(pairs)
        _refuse_greys(ids)
    first = next((pair.mask for pair in pairs if pair.kind == "palette"), pairs[0].mask)
    return _classes_of_ids(ids, first, _Held([(pair.courses, {}) for pair in pairs]))


class _Held:
    """How much of some masks each value has, or each colour where the values of a mask stand for such."""

    def __init__(self, masks: Iterable[tuple[MaskCourses, Mapping[int, int]]]) -> None:
        self._pixels: Counter[int] = Counter()
        self._masks: Counter[int] = Counter()
        for courses, colour_of_value in masks:
            for value, course in courses.of.items():
                key = colour_of_value.get(value, -1) if colour_of_value else value
                self._pixels[key] += course.pixels
                self._masks[key] += 1

    def found(self, key: int, colour: Colour) -> FoundClass:
        """The class of a value or colour."""
        share = self._pixels[key] / max(1, self._pixels.total())
        return FoundClass(colour=colour, share=share, masks=self._masks[key])


def _refuse_two_whites(pairs: Sequence[Pair]) -> None:
    """Raise UserError for masks of black and white in files of 1 bit, where white is 1, beside such with 255."""
    of_one_bit = next((pair for pair in pairs if pair.shades.get(1) == _WHITE), None)
    of_more = [pair for pair in pairs if pair.shades.get(1) != _WHITE]
    if of_one_bit and {value for pair in of_more for value in pair.values} == {0, IGNORE_INDEX}:
        white = next(pair for pair in of_more if IGNORE_INDEX in pair.values)
        raise UserError(
            f"mask {of_one_bit.mask} of 1 bit has 1 where it is white, but {white.mask} has {IGNORE_INDEX}, which "
            f"means ignored: save all in one way, or write classes.yaml, which names the values of each class: "
            f"[{{name: class_0, value: 0}}, {{name: class_1, value: [1, {IGNORE_INDEX}]}}]"
        )


def _refuse_greys(greys: Sequence[int]) -> None:
    """Raise UserError for what hardly are class ids: lightnesses, ids times a factor, edges that were smoothed."""
    known = [grey for grey in greys if grey != IGNORE_INDEX]
    if not known or known[-1] == 0 or known[-1] > IGNORE_INDEX:
        return
    absent = known[-1] + 1 - len(known)
    if len(known) <= MAX_COLOURS and absent <= len(known):
        return
    shown = ", ".join(map(str, greys[:_SHOWN_GREYS])) + (f" … {greys[-1]}" if len(greys) > _SHOWN_GREYS else "")
    raise UserError(
        f"the masks hold {len(greys)} different greys, {shown}, which are no class ids from 0 on: "
        + (
            f"write classes.yaml, which names the value of each class: {_values_named(greys)}"
            if len(greys) <= _SHOWN_GREYS
            else "save the masks without smoothing or JPEG compression, or write classes.yaml yourself, with a list of "
            "values for each class, as in {name: object, value: [128, 255]}"
        )
    )


def _classes_of_colours(numbers: Sequence[int], pairs: Sequence[Pair]) -> FoundClasses:
    if not 2 <= len(numbers) <= MAX_COLOURS:
        held = f"over {MAX_COLOURS} different colours" if len(numbers) > MAX_COLOURS else "one colour alone"
        raise UserError(
            f"the masks hold {held}, but 2 to {MAX_COLOURS} can be classes: save them without smoothing or JPEG "
            f"compression, or write classes.yaml yourself"
        )
    colours = [colour_of(number) for number in numbers]
    for one, other in combinations(colours, 2):
        if all(abs(a - b) < NEAR for a, b in zip(one, other, strict=True)):
            raise UserError(
                f"the masks hold the colours {list(one)} and {list(other)}, which smoothing or JPEG compression makes "
                f"of one: save them without, or class ids as greyscale; or write classes.yaml yourself"
            )
    held = _Held([(pair.courses, {} if pair.kind == "colour" else pair.palette or pair.shades) for pair in pairs])
    contour = contour_among([pair.courses for pair in pairs if pair.kind == "colour"])
    return FoundClasses(
        classes=tuple(held.found(number, colour_of(number)) for number in numbers if number != contour),
        by_colour=True,
        contour=None if contour is None else held.found(contour, colour_of(contour)),
    )


def _values_named(values: Sequence[int]) -> str:
    """A classes.yaml that names each value, in a line."""
    return f"[{', '.join(f'{{name: class_{id}, value: {value}}}' for id, value in enumerate(values))}]"


def _classes_of_ids(ids: Sequence[int], first: Path, held: _Held) -> FoundClasses:
    known = [id for id in ids if id != IGNORE_INDEX]
    highest = max(known, default=0)
    if highest == 0:
        raise UserError(
            f"the masks hold {' and '.join(map(str, ids))} alone, but need two class ids or more, and {IGNORE_INDEX} "
            f"means ignored: save the classes as 0, 1 and so on"
            + (f", or write classes.yaml, which names the value of each: {_values_named(ids)}" if len(ids) > 1 else "")
        )
    if highest > IGNORE_INDEX:
        raise UserError(
            f"the masks hold class id {highest}, but ids must be 0 to {IGNORE_INDEX - 1} or {IGNORE_INDEX} (ignore): "
            f"save the classes as 0, 1 and so on"
        )
    own = tuple(read_palette(first) or ())[: highest + 1]
    colours = own if len(set(own)) == highest + 1 else tuple(voc_palette(highest + 1))
    return FoundClasses(classes=tuple(held.found(id, colour) for id, colour in enumerate(colours)))
