"""A dataset: which images have masks, which have none, which validate."""

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ...models.decoding import HIGHEST, PLAIN, Decoding, Orientation
from ...models.resize import Resize
from ...models.settings import Interval, Settings
from ..errors import UserError
from .images import IGNORE_INDEX, Colour
from .readings import PartCensus
from .samples import Sample


def has_control_characters(name: str) -> bool:
    """Whether a name holds what ends lines or steers terminals; no picture or table can show it."""
    return any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name)


_Value = Annotated[int, Interval(0, HIGHEST)]


class DatasetError(UserError):
    """What is wrong with a dataset, a line for each problem."""


@dataclass(frozen=True, kw_only=True)
class DatasetSettings(Settings):
    """Where a dataset lies and which of its lists play which part.

    A list with a slash or ending in .txt or .pkl is a file, anything else a name among the layout's own lists.
    """

    layout: Literal["voc", "cityscapes", "ade20k", "coco", "folder"] = "voc"
    """What tree lies in `root`: that of PASCAL VOC, Cityscapes, ADE20K or COCO, or folders images/ and masks/."""
    root: Path
    """Folder with that tree."""
    pack: str | None = None
    """Folder or s3:// address that `advseg data pack` wrote this dataset to; read instead of `root`'s files, which need
    not be there."""
    labelled: str = "labelled"
    """List of the images whose masks are trained on."""
    unlabelled: str | None = "unlabelled"
    """List of the images whose masks, if there are any, are never trained on; None if `fraction` alone leaves some.
    Images of the labelled list do not count here."""
    validation: str = "val"
    """List of the images that trainings are judged by."""
    test: str | None = None
    """List of images that no training and no choice reads: of who passes the gate they give the figure that is to be
    quoted."""
    fraction: Annotated[float, Interval(0, 1, open_low=True)] = 1.0
    """Share of the labelled list whose masks are trained on, rounded to whole images; the rest is unlabelled."""
    split_seed: Annotated[int, Interval(0, 2**63, open_high=True)] = 0
    """Draws which ones."""
    order: str | None = None
    """A file that ranks the indices of the labelled list, from 0, instead of a draw; the fraction takes the first."""
    classes: tuple[str, ...] = ()
    """Names in the order of the class ids from 0; by default those of a classes.yaml, VOC's or Cityscapes'."""
    ignore_index: _Value = IGNORE_INDEX
    """Id of pixels that count nowhere."""
    scale: tuple[_Value, _Value] | None = None
    """Of images with 16 bits a channel, the values that become 0 and 255; between them it is linear, and rounded to the
    nearest. None refuses such images. Those of 8 bits are read as they are."""
    orientation: Orientation = "exif"
    """Whether images, and masks in TIFF, are turned as their EXIF or XMP data say, or left as their pixels lie. Other
    masks never are."""

    @property
    def decoding(self) -> Decoding:
        """How images are read."""
        return Decoding(scale=self.scale, orientation=self.orientation)

    def __post_init__(self) -> None:
        super().__post_init__()
        # Raises ValueError for a scale that does not rise.
        _ = self.decoding
        if self.classes and (len(self.classes) < 2 or len(set(self.classes)) < len(self.classes)):
            raise ValueError(f"classes must be two or more different names, but are {', '.join(self.classes)}")
        if odd := [name for name in self.classes if has_control_characters(name)]:
            raise ValueError(f"classes must be names of one line without control characters, but one is {odd[0]!r}")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The samples of every part, checked. `digest` names the contents of all but test; empty if one was read alone."""

    labelled: tuple[Sample, ...]
    unlabelled: tuple[Sample, ...]
    """May be empty."""
    validation: tuple[Sample, ...]
    test: tuple[Sample, ...] = ()
    """What no training reads."""
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    ignore_index: int
    decoding: Decoding = PLAIN
    """How images were read."""
    digest: str
    notes: tuple[str, ...] = ()
    """What whoever trains on it should know: parts left out, masks that hold too little."""
    resized: Resize | None = None
    """The `trainer.resize` by which labelled and unlabelled images and masks are scaled already; None: not at all."""

    @property
    def parts(self) -> dict[str, tuple[Sample, ...]]:
        """The samples of labelled, unlabelled, validation and, if there are any, test, in this order."""
        parts = {"labelled": self.labelled, "unlabelled": self.unlabelled, "validation": self.validation}
        return parts | ({"test": self.test} if self.test else {})


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All that reading a dataset shows."""

    dataset: Dataset | None
    """None if there are problems."""
    problems: tuple[str, ...]
    classes: tuple[str, ...]
    """Empty if they cannot be told."""
    parts: dict[str, PartCensus]
    """Of labelled, unlabelled, validation and, if there is one, test; empty if the folder is none of the layout."""
    notes: tuple[str, ...]
    """What is no problem but worth knowing."""
