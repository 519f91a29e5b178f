"""Datasets whose images and masks lie in a folder for each split, alike in both: ADE20K and COCO."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from ..errors import UserError
from .classes import ClassTable, classes_of
from .images import SUFFIXES, Colour, is_file
from .lists import Entry, has_image_suffix, read_list
from .masks import SUFFIXES_OF_MASKS
from .named_files import file_of, first_folder, missing, named, other_tree
from .published_classes import ADE20K_CLASSES
from .samples import FileSample


class _SplitLayout:
    """`images/<split>/`, and masks of the same names and splits beside it. A list may be the name of a split.

    That has all its images in the order of their names. An image's id is its path in images/ without the suffix.
    """

    tree: ClassVar[str]
    _mask_folders: ClassVar[tuple[str, ...]]

    def __init__(self, root: Path, table: ClassTable, problems: tuple[str, ...], ignore_index: int) -> None:
        self.classes: tuple[str, ...] = table.names
        self.palette: tuple[Colour, ...] = table.colours
        self.problems = problems
        self._coding = table.coding(ignore_index)
        self._root, self._images = root, root / "images"
        if not self._images.is_dir():
            raise other_tree(root, "images/", self.tree)
        masks = first_folder(root / name for name in self._mask_folders)
        if masks is None:
            raise other_tree(root, " or ".join(f"{name}/" for name in self._mask_folders), self.tree)
        self._masks = masks

    def list_file(self, name: str) -> Path:
        """A list in the root."""
        return self._root / f"{name}.txt"

    def entries(self, name: str) -> list[Entry]:
        """The entries of a list in the root, or all images of a split."""
        split = self._images / name
        if is_file(self.list_file(name)) or not split.is_dir():
            return read_list(self.list_file(name))
        names = sorted(path.name for path in split.iterdir())
        found = [f"{name}/{each}" for each in names if has_image_suffix(each) and not each.startswith(".")]
        if not found:
            raise UserError(f"{split} holds no images: put those of the split there")
        return [Entry(image=image) for image in found]

    def sample(self, entry: Entry) -> FileSample:
        """Images and masks are found as the entry names them, else the mask by the image's id."""
        if has_image_suffix(entry.image):
            image = named(entry.image, self._images, self._root) or self._images / entry.image.lstrip("/")
        else:
            image = file_of([self._images], entry.image, SUFFIXES) or self._images / f"{entry.image}.jpg"
        inside = image.relative_to(self._images) if image.is_relative_to(self._images) else image
        id = inside.with_suffix("").as_posix()
        if entry.mask:
            mask = named(entry.mask, self._root, self._masks) or missing(self._root, entry.mask)
        else:
            mask = file_of([self._masks], id, SUFFIXES_OF_MASKS)
        return FileSample(id=id, image=image, mask=mask, coding=self._coding)

    def maskless(self, id: str) -> str:
        """Its mask would lie as its image does."""
        return f"{id} has no mask: add {self._masks / id}.png or list {id} as unlabelled"

    def beside(self, ids: Collection[str]) -> list[str]:
        """Nothing: a split has a list, and some have none on purpose."""
        return []


class Ade20kLayout(_SplitLayout):
    """ADE20K as the scene parsing benchmark distributes it (ADEChallengeData2016).

    In masks 0 counts nowhere and 1 is the first class, unless a classes.yaml in the root names values itself.
    """

    tree = "images/<split>/<id>.jpg and annotations/<split>/<id>.png, with splits training and validation"
    _mask_folders = ("annotations",)

    def __init__(self, root: Path, classes: tuple[str, ...], ignore_index: int) -> None:
        table, problems = classes_of(root, classes, ADE20K_CLASSES)
        if not table.values:
            values = tuple((value,) for value, _ in enumerate(table.names, 1))
            table = replace(table, values=values, ignored_values=(0,))
        super().__init__(root, table, problems, ignore_index)


class CocoLayout(_SplitLayout):
    """COCO with a mask for each image, as COCO-Stuff distributes them: 255 counts nowhere.

    A classes.yaml in the root names the classes and, by `value:`, what stands for each in the masks.
    """

    tree = (
        "images/<split>/<id>.jpg, stuffthingmaps/<split>/<id>.png (or annotations/), with splits such as train2017 and "
        "val2017, and classes.yaml with a list of {name: …, value: …}"
    )
    _mask_folders = ("stuffthingmaps", "annotations")

    def __init__(self, root: Path, classes: tuple[str, ...], ignore_index: int) -> None:
        super().__init__(root, *classes_of(root, classes), ignore_index)
