"""Names and colours of classes: those of VOC and Cityscapes, and those that a classes.yaml tells."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ...models.decoding import HIGHEST
from ...models.regular_file import read_regular
from ..errors import brief
from .dataset import has_control_characters
from .images import Colour, is_there, voc_palette
from .masks import MaskCoding

VOC_CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

CITYSCAPES_CLASSES = (
    *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
    *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
)
CITYSCAPES_PALETTE: tuple[Colour, ...] = (
    *((128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153)),
    *((250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0)),
    *((0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32)),
)
CITYSCAPES_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The values in labelIds files of the classes from 0; all others count nowhere."""

_MOST_VALUES = 50_000
"""Keys and values of a classes.yaml, ten or so a class."""
_SHOWN = 50
"""Problems with entries that are told."""
_KEYS = ("name", "colour", "value", "ignore")
REMEDY = "write a list of {name: …, colour: [red, green, blue]}"


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """What a classes.yaml says."""

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    """Of every class, or of none."""
    ignored: tuple[Colour, ...]
    """Colours of pixels that count nowhere."""
    values: tuple[tuple[int, ...], ...] = ()
    """What stands for each class in masks of one channel; none where class ids do."""
    ignored_values: tuple[int, ...] = ()

    def coding(self, ignore_index: int) -> MaskCoding:
        """What it makes of masks."""
        values = [*enumerate(self.values), *([(ignore_index, self.ignored_values)] if self.values else [])]
        return MaskCoding(
            ignore_index=ignore_index,
            colours=self.colours,
            ignored=self.ignored,
            values=tuple((value, id) for id, of_class in values for value in of_class),
        )


def classes_of(root: Path, names: tuple[str, ...], default: tuple[str, ...] = ()) -> tuple[ClassTable, tuple[str, ...]]:
    """The table in the classes.yaml of a dataset's folder, and all that is wrong with it.

    Where there is none, one of the given names or else of the default ones; that is a problem if there are neither.
    """
    file = root / "classes.yaml"
    if not is_there(file) and (names or default):
        return ClassTable(names=names or default, colours=(), ignored=()), ()
    read, problems = read_classes(file)
    if read and names and read.names != names:
        problems.append(
            f"{file} names {', '.join(read.names)}, but dataset.classes is {', '.join(names)}: "
            f"remove dataset.classes or mend the file"
        )
    return read or ClassTable(names=names, colours=(), ignored=()), tuple(problems)


def complete_palette(colours: tuple[Colour, ...], classes: int) -> tuple[Colour, ...]:
    """As many colours as there are classes; those that are missing are VOC's."""
    return (*colours, *voc_palette(classes)[len(colours) :])[:classes]


def read_classes(path: Path) -> tuple[ClassTable | None, list[str]]:
    """The table in a YAML list of classes, and all that is wrong with the file; no table if anything is.

    An entry is `{name: sky, colour: [70, 130, 180], value: [1, 4]}`. Colours are for RGB masks and for pictures;
    values, one or several, are for other masks where no class ids stand in them: all classes have either, or none has.
    An entry with `ignore: true` is no class; pixels of its colour or values count nowhere.
    """
    from ..bounded_yaml import YamlError, read_yaml

    try:
        # PyYAML tells the encoding of bytes.
        document = read_yaml(read_regular(path), most=_MOST_VALUES)
    except FileNotFoundError:
        return None, [f"{path} does not exist: {REMEDY}, or set dataset.classes"]
    except OSError as error:
        return None, [f"{path} cannot be read ({error.strerror}): {REMEDY}"]
    except YamlError as error:
        return None, [f"{path} is not YAML ({error}): {REMEDY}"]
    if not isinstance(document, list) or not document:
        kind = "is empty" if not document else f"is a {type(document).__name__}"
        return None, [f"{path} must be a list of classes, but {kind}: {REMEDY}"]
    found = (
        f"{path}: entry {number} {problem}"
        for number, entry in enumerate(document, 1)
        for problem in _problems_of_entry(entry)
    )
    problems = list(islice(found, _SHOWN))
    if not problems:
        problems = [f"{path}: {problem}" for problem in _problems_of_all(document)]
    if problems:
        return None, problems
    classes = [entry for entry in document if not entry.get("ignore")]
    return ClassTable(
        names=tuple(entry["name"] for entry in classes),
        colours=tuple(_colour(entry) for entry in classes if "colour" in entry),
        ignored=tuple(_colour(entry) for entry in document if entry.get("ignore") and "colour" in entry),
        values=tuple(_values(entry) for entry in classes if "value" in entry),
        ignored_values=tuple(value for entry in document if entry.get("ignore") for value in _values(entry)),
    ), []


def _problems_of_entry(entry: Any) -> Iterator[str]:
    if not isinstance(entry, dict):
        yield f"must be a mapping, but is {brief(repr(entry))}: {REMEDY}"
        return
    for key in entry:
        if key not in _KEYS:
            yield f"has the unknown key {brief(str(key))}: an entry has {', '.join(_KEYS[:-1])} and {_KEYS[-1]}"
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        yield f"must have a name that is text, but it is {brief(repr(name))}: quote what YAML reads as something else"
    elif has_control_characters(name):
        yield f"must have a name of one line without control characters, but it is {brief(repr(name))}"
    ignore = entry.get("ignore", False)
    if not isinstance(ignore, bool):
        yield f"must have ignore true or false, but it is {brief(repr(ignore))}"
    if ignore is True and "colour" not in entry and "value" not in entry:
        yield "is to be ignored and needs the colour or value that is"
    if "colour" in entry and not _is_colour(entry["colour"]):
        yield f"must have a colour of three whole numbers from 0 to 255, but it is {brief(repr(entry['colour']))}"
    if "value" in entry and not _is_value(entry["value"]):
        yield (
            f"must have a value that is a whole number from 0 to {HIGHEST}, or a list of them, but it is "
            f"{brief(repr(entry['value']))}"
        )


def _problems_of_all(entries: list[dict[str, Any]]) -> Iterator[str]:
    classes = [entry for entry in entries if not entry.get("ignore")]
    names = [entry["name"] for entry in classes]
    if len(names) < 2:
        yield f"must name two classes or more, but names {', '.join(names) or 'none'}"
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"names class {name} twice: each class has a name of its own"
    colours = [_colour(entry) for entry in entries if "colour" in entry]
    for colour in sorted({colour for colour in colours if colours.count(colour) > 1}):
        yield f"has colour {list(colour)} twice: each class has a colour of its own"
    values = [value for entry in entries for value in _values(entry)]
    for value in sorted(value for value, count in Counter(values).items() if count > 1):
        yield f"has value {value} twice: each value stands for one class"
    for key, found in (("colour", colours), ("value", values)):
        without = [entry["name"] for entry in classes if key not in entry]
        if without and found:
            yield f"tells no {key} of {', '.join(without)}: all classes have one or none has"


def _is_colour(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)


def _is_value(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(type(v) is int and 0 <= v <= HIGHEST for v in values)


def _values(entry: dict[str, Any]) -> tuple[int, ...]:
    value = entry.get("value", [])
    return tuple(value) if isinstance(value, list) else (value,)


def _colour(entry: dict[str, Any]) -> Colour:
    red, green, blue = entry["colour"]
    return red, green, blue
