"""Where images, masks and lists lie in a dataset's folder."""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from ..errors import UserError
from .classes import CITYSCAPES_CLASSES, CITYSCAPES_LABEL_IDS, CITYSCAPES_PALETTE, VOC_CLASSES, classes_of
from .folder_tree import read_folder, same_name, twin_problem
from .images import IGNORE_INDEX, SUFFIXES, Colour, is_file
from .lists import Entry, has_image_suffix, read_list
from .masks import SUFFIXES_OF_MASKS, MaskCoding
from .named_files import file_of, first_file, first_folder, missing, named, other_tree
from .samples import FileSample
from .split_layout import Ade20kLayout, CocoLayout

_SHOWN = 3


class Layout(Protocol):
    """A dataset's folder as one of the known trees. Making one raises UserError if it is another tree."""

    classes: tuple[str, ...]
    """Empty if they cannot be told."""
    palette: tuple[Colour, ...]
    """Colours of the classes; empty if the masks tell them."""
    problems: tuple[str, ...]
    """What is wrong beside the images and masks."""

    def list_file(self, name: str) -> Path:
        """Where the list of a name lies."""
        ...

    def entries(self, name: str) -> list[Entry]:
        """The entries of the list of a name. Raises UserError if there is none."""
        ...

    def sample(self, entry: Entry) -> FileSample:
        """The image of an entry and its mask; either's file is missing only if no rule of the layout finds one.

        The mask is then the one that the entry names, if any.
        """
        ...

    def maskless(self, id: str) -> str:
        """That an image which needs a mask has none, and what to do, in one line."""
        ...

    def beside(self, ids: Collection[str]) -> list[str]:
        """What lies there beside the images of these ids, a line for each kind."""
        ...


class VocLayout:
    """PASCAL VOC: `JPEGImages/` with `SegmentationClassAug/`, `SegmentationClass/` or both, looked at in this order.

    They lie in the root or in `VOC2012/`, the latter in the root or in `VOCdevkit/`; beside it `VOCaug/` may hold
    the masks of SBD. The root may have a classes.yaml.
    """

    tree = (
        "JPEGImages/<id>.jpg, SegmentationClassAug/<id>.png or SegmentationClass/<id>.png, and "
        "ImageSets/Segmentation/<list>.txt (or VOCdevkit/ with VOC2012/ and VOCaug/)"
    )

    def __init__(self, root: Path, classes: tuple[str, ...], ignore_index: int) -> None:
        table, self.problems = classes_of(root, classes, VOC_CLASSES)
        self.classes, self.palette = table.names, table.colours
        self._coding = table.coding(ignore_index)
        base = first_folder(place / "JPEGImages" for place in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"))
        if base is None:
            raise other_tree(root, "JPEGImages/", self.tree)
        self._images, self._base, self._root = base, base.parent, root
        extra = first_folder((root / "VOCaug", root / "VOCdevkit" / "VOCaug"))
        self._mat = extra / "dataset" / "cls" if extra else None
        names = ("SegmentationClassAug", "SegmentationClass")
        folders = [self._base / name for name in names]
        if extra:
            folders += [extra / name for name in (*names, "dataset/SegmentationClassAug", "dataset/cls")]
        self._masks = [folder for folder in folders if folder.is_dir()]
        if not self._masks:
            raise other_tree(self._base, "SegmentationClassAug/ or SegmentationClass/", self.tree)

    def list_file(self, name: str) -> Path:
        """A list in ImageSets/Segmentation."""
        return self._base / "ImageSets" / "Segmentation" / f"{name}.txt"

    def entries(self, name: str) -> list[Entry]:
        """The entries of a list in ImageSets/Segmentation."""
        return read_list(self.list_file(name))

    def sample(self, entry: Entry) -> FileSample:
        """Images and masks are found as the entry names them, else by the image's name."""
        listed, id = None, entry.image
        if has_image_suffix(entry.image):
            listed = named(entry.image, self._base, self._root, self._images)
            id = Path(entry.image).stem
        image = listed or file_of([self._images], id, SUFFIXES)
        mask = named(entry.mask, self._base, self._root) if entry.mask else None
        if mask is None and (entry.mask is None or Path(entry.mask).stem == id):
            mask = file_of(self._masks, id, SUFFIXES_OF_MASKS)
        return FileSample(
            id=id,
            image=image or self._images / f"{id}.jpg",
            mask=mask or missing(self._base, entry.mask),
            coding=self._coding,
        )

    def maskless(self, id: str) -> str:
        """Masks of SBD come as .mat files, of which one line speaks for all."""
        if self._mat and is_file(self._mat / f"{id}.mat"):
            target = self._mat.parent.parent / "SegmentationClassAug"
            return (
                f"{self._mat} holds masks as .mat files: save each as a PNG in {target}, in Python "
                f"Image.fromarray(scipy.io.loadmat(mat)['GTcls'][0]['Segmentation'][0]).save(png)"
            )
        folders = " or ".join(f"{folder.relative_to(self._root)}/" for folder in self._masks)
        return f"{id} has no mask in {folders}: add it or list {id} as unlabelled"

    def beside(self, ids: Collection[str]) -> list[str]:
        """Nothing: the tree is made to hold more images than a list."""
        return []


class CityscapesLayout:
    """Cityscapes as it is distributed. A list may be the name of a split: all its images in the order of their names.

    `labelIds` masks are mapped to the 19 train ids, all other values to the ignore index. In `labelTrainIds`
    masks, which are looked at first, 255 stands for ignored whatever the ignore index is.
    """

    tree = (
        "leftImg8bit/<split>/<city>/<id>_leftImg8bit.png and "
        "gtFine/<split>/<city>/<id>_gtFine_labelIds.png or <id>_gtFine_labelTrainIds.png"
    )
    palette = CITYSCAPES_PALETTE
    problems: tuple[str, ...] = ()

    def __init__(self, root: Path, classes: tuple[str, ...], ignore_index: int) -> None:
        self.classes = classes or CITYSCAPES_CLASSES
        self._root, self._images, self._masks = root, root / "leftImg8bit", root / "gtFine"
        for folder in (self._images, self._masks):
            if not folder.is_dir():
                raise other_tree(root, f"{folder.name}/", self.tree)
        label_ids = [ignore_index] * (max(CITYSCAPES_LABEL_IDS) + 2)
        for train_id, value in enumerate(CITYSCAPES_LABEL_IDS):
            label_ids[value] = train_id
        self._codings = {
            "labelTrainIds": MaskCoding(ignore_index=ignore_index, table=(*range(IGNORE_INDEX), ignore_index)),
            "labelIds": MaskCoding(ignore_index=ignore_index, table=tuple(label_ids)),
        }

    @cached_property
    def _found(self) -> dict[str, Path]:
        """Every image by its id."""
        return {_cityscapes_id(path.name): path for path in sorted(self._images.glob("*/*/*_leftImg8bit.png"))}

    def list_file(self, name: str) -> Path:
        """A list in the root."""
        return self._root / f"{name}.txt"

    def entries(self, name: str) -> list[Entry]:
        """The entries of a list in the root, or all images of a split."""
        split = self._images / name
        if is_file(self.list_file(name)) or not split.is_dir():
            return read_list(self.list_file(name))
        ids = [id for id, path in self._found.items() if path.is_relative_to(split)]
        if not ids:
            raise UserError(f"{split} holds no <city>/<id>_leftImg8bit.png: put the images of the split there")
        return [Entry(image=id) for id in ids]

    def sample(self, entry: Entry) -> FileSample:
        """Images and masks are found as the entry names them, else by the image's id."""
        id = _cityscapes_id(Path(entry.image).name)
        image = named(entry.image, self._root, self._images) or self._found.get(id)
        mask = named(entry.mask, self._root, self._masks) if entry.mask else None
        if mask is None and image and (entry.mask is None or _cityscapes_id(Path(entry.mask).name) == id):
            place = self._masks / image.parent.parent.name / image.parent.name
            mask = first_file(place / f"{id}_gtFine_{kind}.png" for kind in self._codings)
        kind = "labelIds" if mask and mask.name.endswith("_labelIds.png") else "labelTrainIds"
        return FileSample(
            id=id,
            image=image or self._images / "<split>" / id.partition("_")[0] / f"{id}_leftImg8bit.png",
            mask=mask or missing(self._root, entry.mask),
            coding=self._codings[kind],
        )

    def maskless(self, id: str) -> str:
        """Its mask would lie as its image does."""
        place = self._masks / self._found[id].relative_to(self._images).parent if id in self._found else self._masks
        return f"{id} has no mask: add {place / id}_gtFine_labelIds.png or list {id} as unlabelled"

    def beside(self, ids: Collection[str]) -> list[str]:
        """Nothing: a split has a list, and some have none on purpose."""
        return []


class FolderLayout:
    """A user's own data: `images/` with folders as deep as they like, `masks/` alike, lists, and `classes.yaml`."""

    tree = (
        "images/<id>.jpg or .png, masks/<id>.png, <list>.txt with one id a line, "
        "and classes.yaml with a list of {name: …, colour: [red, green, blue]}"
    )

    def __init__(self, root: Path, classes: tuple[str, ...], ignore_index: int) -> None:
        self._root, self._images, self._masks = root, root / "images", root / "masks"
        for folder in (self._images, self._masks):
            if not folder.is_dir():
                raise other_tree(root, f"{folder.name}/", self.tree)
        self._tree = read_folder(root)
        problems = [twin_problem(*twins, self._id(twins[0])) for twins in self._tree.twins]
        self._ids = {same_name(id): id for id in self._tree.images}
        table, wrong = classes_of(root, classes)
        self.classes, self.palette, self.problems = table.names, table.colours, (*problems, *wrong)
        self._coding = table.coding(ignore_index)

    def _id(self, path: Path) -> str:
        inside = path.relative_to(self._images) if path.is_relative_to(self._images) else path
        return inside.with_suffix("").as_posix()

    def list_file(self, name: str) -> Path:
        """A list in the root."""
        return self._root / f"{name}.txt"

    def entries(self, name: str) -> list[Entry]:
        """The entries of a list in the root."""
        return read_list(self.list_file(name))

    def sample(self, entry: Entry) -> FileSample:
        """An image's id is its path in images/ without its suffix; the mask has the same path in masks/.

        A copy by way of macOS, whose accents stand apart, is the same dataset.
        """
        if has_image_suffix(entry.image):
            image = named(entry.image, self._images, self._root) or self._images / entry.image.lstrip("/")
        else:
            image = self._tree.images.get(self._ids.get(same_name(entry.image), ""))
            image = image or file_of([self._images], entry.image, SUFFIXES) or self._images / f"{entry.image}.jpg"
        id = self._id(image)
        if entry.mask:
            mask = named(entry.mask, self._root, self._masks) or missing(self._root, entry.mask)
        else:
            mask = self._tree.masks.get(id) or file_of([self._masks], id, SUFFIXES_OF_MASKS)
        return FileSample(id=same_name(id), image=image, mask=mask, coding=self._coding)

    def maskless(self, id: str) -> str:
        """Its mask would lie in masks/."""
        return f"{id} has no mask: add {self._masks / id}.png or list {id} as unlabelled"

    def beside(self, ids: Collection[str]) -> list[str]:
        """Images that are on no list, masks of none, and files that are not read."""
        strays = [*self._tree.strays, *(second for _, second in self._tree.seconds)]
        left = [id for id in self._tree.images if same_name(id) not in ids]
        return [
            *([f"{len(left)} images in {self._images} are on no list of this spec: {some(left)}"] if left else []),
            *(
                [f"{len(strays)} masks belong to no image, or to one that has another: {some(strays)}"]
                if strays
                else []
            ),
            *(f"not read in {folder}: {counts}" for folder, counts in self._tree.left_out.items()),
        ]


LAYOUTS: dict[str, Callable[[Path, tuple[str, ...], int], Layout]] = {
    "voc": VocLayout,
    "cityscapes": CityscapesLayout,
    "ade20k": Ade20kLayout,
    "coco": CocoLayout,
    "folder": FolderLayout,
}
TREES = {
    "voc": VocLayout.tree,
    "cityscapes": CityscapesLayout.tree,
    "ade20k": Ade20kLayout.tree,
    "coco": CocoLayout.tree,
    "folder": FolderLayout.tree,
}
"""What each layout expects in its root."""


def some(things: Sequence[object]) -> str:
    """The first of some things, and whether there are more."""
    shown = ", ".join(map(str, things[:_SHOWN]))
    return shown + (", …" if len(things) > _SHOWN else "")


def _cityscapes_id(name: str) -> str:
    """The id in the name of an image or mask file, or in one without its suffix."""
    stem = name.removesuffix(".png").removesuffix("_leftImg8bit")
    return stem.partition("_gtFine_")[0]
