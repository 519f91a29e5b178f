"""What a user's folder of images and masks holds before it has lists and class names."""

import hashlib
from collections.abc import Iterator, Mapping, Set, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ...models.decoding import PLAIN, Decoding
from ..errors import UserError, listed
from ..progress import progress
from .contours import MOST_VALUES, NO_COURSES, MaskCourses, courses
from .folder_tree import ENDINGS, FolderTree, read_folder, same_name, twin_problem
from .images import IGNORE_INDEX, ImageError, decode_image_of_dataset, orientation_of, read_file, read_size
from .lists import Entry, has_image_suffix, parse_entry
from .masks import MaskFile, open_mask
from .readings import size_problem

MAX_COLOURS = 100
"""More colours than these in RGB masks are no classes: smoothing or lossy compression made them."""
_IMAGES = "images (PNG, JPEG, TIFF, BMP or WebP)"
_MASKS = "masks (PNG, TIFF, BMP or WebP)"


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
    courses: MaskCourses = NO_COURSES
    """How the values run through the mask; nothing is known of more than 254."""

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
    sizes: tuple[tuple[int, int], ...]
    """Heights and widths of all images, in pixels."""
    left_out: Mapping[Path, str]
    """What is not read in images/ and masks/, in words with counts."""


def survey(folder: Path, decoding: Decoding = PLAIN) -> Survey:
    """Pair the masks in FOLDER/masks/ with the images in FOLDER/images/, as `read_folder` does; images may lack masks.

    Raises UserError, with a line for each problem: no images, masks of fewer than two different images, a mask
    without image or of another size, two images of one id, pairs that cannot be read, names that no list can hold.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: name one with images/ and masks/")
    for place, kind in ((folder / "images", _IMAGES), (folder / "masks", _MASKS)):
        if not place.is_dir():
            _refuse_one_of_both(folder)
            raise UserError(f"{folder} has no folder {place.name}/: put {kind} there")
    tree = read_folder(folder)
    _refuse_empty(folder / "images", _IMAGES, tree.images, tree)
    _refuse_empty(folder / "masks", _MASKS, [*tree.masks, *tree.strays], tree)
    problems = [twin_problem(*twins, _id_of(twins[0], folder)) for twins in tree.twins]
    problems += [f"{path} {wrong}: rename it and its mask" for id, path in tree.images.items() if (wrong := _unfit(id))]
    problems += _strays(tree, folder)
    problems += [f"{one} and {other} are masks of one image: remove one" for one, other in tree.seconds]
    image_of, mask_of = tree.images, tree.masks
    pairs: list[Pair] = []
    unlabelled: list[tuple[str, str]] = []
    sizes: list[tuple[int, int]] = []
    for id, path in progress(image_of.items(), len(image_of), "images read"):
        try:
            content = read_file(path)
            digest = hashlib.sha256(content).hexdigest()
            if mask := mask_of.get(id):
                image = decode_image_of_dataset(content, path, decoding)
                orientation = orientation_of(content, decoding)
                file = open_mask(read_file(mask), mask, decoding)
                pairs.append(_pair(id, mask, file, image.shape[:2], orientation, digest))
                sizes.append(pairs[-1].size)
            else:
                sizes.append(read_size(path, decoding))
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
        sizes=tuple(sizes),
        left_out=tree.left_out,
    )


def _refuse_one_of_both(folder: Path) -> None:
    parent = folder.absolute().parent
    both = parent / "images", parent / "masks"
    if folder.absolute() in both and all(each.is_dir() for each in both):
        raise UserError(f"{folder} is a part of what is wanted: name {parent}, which has images/ and masks/")


def _refuse_empty(place: Path, kind: str, found: Sized, tree: FolderTree) -> None:
    if not found:
        others = tree.left_out.get(place)
        raise UserError(
            f"{place} holds no {kind}, but {others}: convert what is an image"
            if others
            else f"{place} is empty: put {kind} there"
        )


def _strays(tree: FolderTree, folder: Path) -> Iterator[str]:
    """Masks of no image; those that have another ending than is known are told at once."""
    ids = {same_name(id) for id in tree.images}
    names = {path: path.relative_to(folder / "masks").with_suffix("").as_posix() for path in tree.strays}
    alike: dict[str, list[Path]] = {}
    for path, name in names.items():
        alike.setdefault(_ending(same_name(name), ids), []).append(path)
    for ending, paths in alike.items():
        if ending and len(paths) > 1:
            yield (
                f"{len(paths)} masks, such as {paths[0]}, have {ending} after the names of their images: name each as "
                f"its image is, with nothing after it or one of {', '.join(ENDINGS)}"
            )
        else:
            for path in paths:
                image = folder / "images" / names[path]
                yield f"mask {path} has no image {image}.jpg, .png or the like: add it or remove the mask"


def _ending(name: str, ids: Set[str]) -> str:
    """What a name adds, after a mark, to the longest id with which it begins; empty if it begins with none."""
    marks = (place for place in range(len(name) - 1, 0, -1) if not name[place].isalnum())
    return next((name[place:] for place in marks if name[:place] in ids), "")


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


def _pair(id: str, mask: Path, file: MaskFile, size: tuple[int, ...], orientation: int, digest: str) -> Pair:
    height, width = size
    if file.pixels.shape != (height, width):
        raise ImageError(size_problem(mask, file.pixels.shape, (height, width), orientation))
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
        courses=courses(file.pixels, file.used) if len(file.used) <= MOST_VALUES else NO_COURSES,
    )
