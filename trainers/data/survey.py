"""What a user's folder of images and masks holds before it has lists and class names, and a first division of it."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Literal

from ..errors import UserError, listed
from .agreement import contradictions
from .folder_tree import FolderTree, read_folder, twin_problem
from .images import IGNORE_INDEX, Colour, ImageError, colour_of, decode_image, read_file, voc_palette
from .lists import Entry, has_image_suffix, parse_entry
from .masks import open_mask, read_palette

MAX_COLOURS = 100
"""More colours than these in RGB masks are no classes: smoothing or lossy compression made them."""
NEAR = 8
"""Colours that differ by less in each channel are hardly chosen for two classes."""
_SHOWN_GREYS = 8
_TRAINING = ("train", "training")
_VALIDATION = ("val", "valid", "validation")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An image with a mask of the same size."""

    id: str
    mask: Path
    size: tuple[int, int]
    """Height and width in pixels."""
    digest: str
    """Of the image file's content."""
    kind: Literal["grey", "palette", "colour"]
    """What the mask's file holds."""
    values: tuple[int, ...]
    """The different greys or indices in the mask, or the numbers of the first of its colours."""
    shades: Mapping[int, int] = field(default_factory=dict)
    """The number of the colour of each grey or index, where it is known."""
    palette: Mapping[int, int] = field(default_factory=dict)
    """The same of the indices of a palette that tells its classes apart."""

    @property
    def colours(self) -> tuple[int, ...]:
        """The numbers of the colours in the mask; empty where they tell nothing."""
        return self.values if self.kind == "colour" else tuple((self.palette or self.shades).values())

    @property
    def marks(self) -> tuple[int, ...]:
        """What tells the classes in the mask apart, in masks whose palettes differ, too."""
        return tuple(self.palette.values()) or self.values


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The images of a folder, in the order of their paths."""

    pairs: tuple[Pair, ...]
    """Two different images at least."""
    unlabelled: tuple[str, ...]
    """Ids of images without a mask."""
    copies: tuple[str, ...]
    """Ids of images without a mask that equal one with a mask, and teach nothing more."""
    left_out: Mapping[Path, str]
    """What is not read in images/ and masks/, in words with counts."""


@dataclass(frozen=True, kw_only=True)
class FoundClasses:
    """What the masks tell of their classes."""

    colours: tuple[Colour, ...]
    """Of the classes from 0, all different."""
    absent: tuple[int, ...]
    """Ids below the highest one that no mask holds."""


def survey(folder: Path) -> Survey:
    """Pair the masks in FOLDER/masks/ with the images in FOLDER/images/, as `read_folder` does; images may lack masks.

    Raises UserError, with a line for each problem: no images, masks of fewer than two different images, a mask
    without image or of another size, two images of one id, pairs that cannot be read, names that no list can hold.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: name one with images/ and masks/")
    for place, kind in ((folder / "images", "JPEG or PNG images"), (folder / "masks", "PNG masks")):
        if not place.is_dir():
            raise UserError(f"{folder} has no folder {place.name}/: put {kind} there")
    tree = read_folder(folder)
    _refuse_empty(folder / "images", "JPEG or PNG images", tree.images, tree)
    _refuse_empty(folder / "masks", "PNG masks", [*tree.masks, *tree.strays], tree)
    problems = [twin_problem(*twins, _id_of(twins[0], folder)) for twins in tree.twins]
    problems += [f"{path} {wrong}: rename it and its mask" for id, path in tree.images.items() if (wrong := _unfit(id))]
    problems += [
        f"mask {path} has no image {folder / 'images' / path.relative_to(folder / 'masks').with_suffix('')}.jpg or "
        f".png: add it or remove the mask"
        for path in tree.strays
    ]
    problems += [f"{one} and {other} are masks of one image: remove one" for one, other in tree.seconds]
    image_of, mask_of = tree.images, tree.masks
    pairs: list[Pair] = []
    unlabelled: list[tuple[str, str]] = []
    for id, path in image_of.items():
        try:
            content = read_file(path)
            digest = hashlib.sha256(content).hexdigest()
            if mask := mask_of.get(id):
                pairs.append(_pair(id, mask, decode_image(content, path).shape[:2], digest))
            else:
                unlabelled.append((id, digest))
        except ImageError as error:
            problems.append(str(error))
    if problems:
        raise UserError(listed(problems, str(folder)))
    known = {pair.digest for pair in pairs}
    if len(known) < 2:
        raise UserError(
            f"{folder / 'masks'} has masks of fewer than two different images, but one is to train on and one to "
            f"validate: add masks"
        )
    return Survey(
        pairs=tuple(pairs),
        unlabelled=tuple(id for id, digest in unlabelled if digest not in known),
        copies=tuple(id for id, digest in unlabelled if digest in known),
        left_out=tree.left_out,
    )


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
        return _classes_of_colours(sorted(told))
    ids = sorted({value for pair in pairs for value in pair.values})
    palette = next((pair for pair in pairs if pair.palette), None)
    if palette is None:
        _refuse_greys(ids)
    return _classes_of_ids(ids, next((pair.mask for pair in pairs if pair.kind == "palette"), pairs[0].mask))


def given_validation(pairs: Sequence[Pair]) -> set[str] | None:
    """Ids of the pairs in a folder for validation, where all lie in one for that or in one for training; else None."""
    validating = {pair.id: _top(pair.id) in _VALIDATION for pair in pairs}
    if all(_top(pair.id) in (*_TRAINING, *_VALIDATION) for pair in pairs) and len({*validating.values()}) == 2:
        return {id for id, judges in validating.items() if judges}
    return None


def _top(id: str) -> str:
    """The outermost of the folders in which an image lies."""
    return id.partition("/")[0].lower() if "/" in id else ""


def draw_validation(pairs: Sequence[Pair], seed: int) -> set[str]:
    """Ids of about a fifth of the pairs, at least one and never all.

    Equal images stay on one side, and the last image that holds some class is trained on. The lot of an image hangs
    on the seed and its own content, so that with more images few change sides.
    """
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair.digest, []).append(pair)
    lots = sorted(groups, key=lambda digest: hashlib.sha256(f"{seed}/{digest}".encode()).digest())
    holders = Counter(value for pair in pairs for value in pair.marks)
    wanted, chosen = max(1, round(len(pairs) / 5)), set()
    for digest in lots:
        group = groups[digest]
        held = Counter(value for pair in group for value in pair.marks)
        if len(chosen) + len(group) <= wanted and all(holders[value] > n for value, n in held.items()):
            chosen.update(pair.id for pair in group)
            holders -= held
    return chosen or {pair.id for pair in min((groups[digest] for digest in lots), key=len)}


def _refuse_empty(place: Path, kind: str, found: Sized, tree: FolderTree) -> None:
    if not found:
        others = tree.left_out.get(place)
        raise UserError(
            f"{place} holds no {kind}, but {others}: convert what is an image"
            if others
            else f"{place} is empty: put {kind} there"
        )


def _id_of(image: Path, folder: Path) -> str:
    return image.relative_to(folder / "images").with_suffix("").as_posix()


def _unfit(id: str) -> str | None:
    """Why an id cannot stand in a list, if it cannot."""
    try:
        id.encode()
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    fits = id.splitlines() == [id.strip()] and parse_entry(id) == Entry(image=id) and not has_image_suffix(id)
    return None if fits else "has a name that a list cannot hold"


def _pair(id: str, mask: Path, size: tuple[int, ...], digest: str) -> Pair:
    file = open_mask(read_file(mask), mask)
    height, width = size
    if file.pixels.shape != (height, width):
        raise ImageError(
            f"{mask} is {file.pixels.shape[1]} x {file.pixels.shape[0]}, but its image is {width} x {height}: mend "
            f"either"
        )
    in_colour = file.kind == "colour"
    return Pair(
        id=id,
        mask=mask,
        size=(height, width),
        digest=digest,
        kind=file.kind,
        # A smoothed mask has a hundred thousand colours; that they are too many shows by then.
        values=tuple(file.used[: MAX_COLOURS + 1 if in_colour else None]),
        shades={} if in_colour else file.shades,
        palette=file.palette(IGNORE_INDEX),
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
            f"write classes.yaml, which names the value of each class: {_value_lines(greys)}"
            if len(greys) <= _SHOWN_GREYS
            else "save the masks without smoothing or JPEG compression, or write classes.yaml yourself, with a list of "
            "values for each class, as in {name: object, value: [128, 255]}"
        )
    )


def _classes_of_colours(numbers: Sequence[int]) -> FoundClasses:
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
    return FoundClasses(colours=tuple(colours), absent=())


def _value_lines(values: Sequence[int]) -> str:
    """The lines of a classes.yaml that names each value, as one."""
    return ", ".join(f"- {{name: class_{id}, value: {value}}}" for id, value in enumerate(values))


def _classes_of_ids(ids: Sequence[int], first: Path) -> FoundClasses:
    known = [id for id in ids if id != IGNORE_INDEX]
    highest = max(known, default=0)
    if highest == 0:
        raise UserError(
            f"the masks hold {' and '.join(map(str, ids))} alone, but need two class ids or more, and {IGNORE_INDEX} "
            f"means ignored: save the classes as 0, 1 and so on"
            + (f", or write classes.yaml, which names the value of each: {_value_lines(ids)}" if len(ids) > 1 else "")
        )
    if highest > IGNORE_INDEX:
        raise UserError(
            f"the masks hold class id {highest}, but ids must be 0 to {IGNORE_INDEX - 1} or {IGNORE_INDEX} (ignore): "
            f"save the classes as 0, 1 and so on"
        )
    own = tuple(read_palette(first) or ())[: highest + 1]
    colours = own if len(set(own)) == highest + 1 else tuple(voc_palette(highest + 1))
    return FoundClasses(colours=colours, absent=tuple(sorted(set(range(highest)) - set(known))))
