"""What a survey of a user's folder found, in words."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..trainers.data.division import GivenParts
from ..trainers.data.folder_tree import same_name
from ..trainers.data.images import is_file
from ..trainers.data.layouts import some
from ..trainers.data.lists import has_image_suffix, read_list
from ..trainers.data.survey import Survey

_BARE = "unlabelled.txt"


def said_of(found: Survey) -> Iterator[str]:
    """Numbers and sizes of images, and what is left out."""
    yield f"{len(found.pairs)} images with a mask, {len(found.unlabelled)} without"
    yield _sizes(found.sizes)
    if found.copies:
        yield f"left out, as they equal images with a mask: {', '.join(found.copies)}"
    for place, counts in found.left_out.items():
        yield f"not read in {place}: {counts}"


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    """What heights and widths images have, in words."""
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    smallest, median, largest = (
        "{1} x {0}".format(*by_area[place]) for place in (0, (len(by_area) - 1) // 2, len(by_area) - 1)
    )
    if by_area[0] == by_area[-1] and len({*sizes}) == 1:
        return f"all images have {smallest} pixels"
    on_end = sum(height > width for height, width in sizes)
    return f"images have {smallest} to {largest} pixels, the median {median}; {on_end} of {len(sizes)} are on end"


def said_of_unlisted(folder: Path, found: Survey, given: GivenParts) -> list[str]:
    """What to do with images and masks that came after the lists, if there are any."""
    lists = [path for name in ("labelled", "val", "unlabelled", "test") if is_file(path := folder / f"{name}.txt")]
    ids = {path.name: [_id(entry.image) for entry in read_list(path)] for path in lists}
    listed = {id for of_list in ids.values() for id in of_list}
    come = {
        "labelled.txt": [pair.id for pair in found.pairs if pair.id not in given.validation | given.test],
        "val.txt": sorted(given.validation),
        _BARE: found.unlabelled,
        "test.txt": sorted(given.test),
    }
    said = []
    for path in lists:
        if left := [id for id in come.get(path.name, ()) if same_name(id) not in listed]:
            said.append(f"{len(left)} images are on no list, add them to {path}: {some(left)}")
    elsewhere = {id for name, of_list in ids.items() if name != _BARE for id in of_list}
    masked = {same_name(pair.id) for pair in found.pairs} - elsewhere
    if painted := [id for id in ids.get(_BARE, ()) if id in masked]:
        said.append(
            f"{len(painted)} images of {folder / _BARE} have masks now, move them to {folder / 'labelled.txt'}: "
            f"{some(painted)}"
        )
    return [*said, "or remove the lists, and they are drawn anew"] if said else []


def _id(image: str) -> str:
    """The id of an image as a list has it, however its accents are written."""
    inside = image.lstrip("/").removeprefix("images/")
    return same_name(str(Path(inside).with_suffix("")) if has_image_suffix(image) else image)
