"""Masks: from what a file holds, through what its values and colours stand for, to class ids."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ...models.decoding import HIGHEST, PLAIN, Decoding
from ...models.picture_files import bits_of, deep_error, in_rgb, open_picture, orientation_to_turn, upright
from .images import IGNORE_INDEX, Colour, ImageError, colour_numbers, colour_of, read_file, told
from .lossy import lossy_kind

_SHOWN = 3
_GREY = 0x010101
"""The number of the grey of lightness 1."""
SUFFIXES_OF_MASKS = (".png", ".tif", ".tiff", ".bmp", ".webp")
"""How the names of masks end, in lower case; JPEG does not keep class ids."""


@dataclass(frozen=True, kw_only=True)
class MaskCoding:
    """What the values and colours in a mask file stand for; by default each value is a class id."""

    ignore_index: int = IGNORE_INDEX
    table: tuple[int, ...] = ()
    """Class ids of the values from 0; the last one is that of all higher values too."""
    colours: tuple[Colour, ...] = ()
    """Colours of the classes from 0."""
    ignored: tuple[Colour, ...] = ()
    """Colours of pixels that count nowhere."""
    values: tuple[tuple[int, int], ...] = ()
    """Values, each with the class id or ignore index that it stands for; where there are any, no other may occur."""

    @property
    def described(self) -> str:
        """What the digest of a dataset holds of it; empty where values are class ids."""
        if not (self.table or self.colours or self.values):
            return ""
        # As the digests of packs and checkpoints were made before masks had values.
        colours = f"table={self.table}, colours={self.colours}, ignored={self.ignored}"
        return f"MaskCoding(ignore_index={self.ignore_index}, {colours})" + (str(self.values) if self.values else "")

    @cached_property
    def named(self) -> dict[int, int]:
        """The class id or ignore index of each colour that has a name, by the colour's number."""
        ids = [*range(len(self.colours)), *[self.ignore_index] * len(self.ignored)]
        numbers = colour_numbers(np.array([*self.colours, *self.ignored], np.uint8).reshape(-1, 3))
        return dict(zip(numbers.tolist(), ids, strict=True))


@dataclass(frozen=True, kw_only=True)
class MaskFile:
    """What a mask's file holds."""

    kind: Literal["grey", "palette", "colour"]
    pixels: np.ndarray = field(compare=False)
    """Greys, indices or numbers of colours [H, W]."""
    lights: np.ndarray | None = field(default=None, compare=False)
    """The number of the colour that each grey or index shows; None where the pixels are such, or it cannot be told."""

    @cached_property
    def used(self) -> list[int]:
        """The different pixels, rising."""
        if self.kind == "colour":
            return np.unique(self.pixels).tolist()
        # Of bytes Pillow counts three times as fast, in every mask that a training reads.
        is_byte = self.pixels.dtype == np.uint8
        counts = Image.fromarray(self.pixels).histogram() if is_byte else np.bincount(self.pixels.ravel())
        return np.flatnonzero(counts).tolist()

    @cached_property
    def shades(self) -> dict[int, int]:
        """The number of the colour of each used grey or index that has one."""
        lights = () if self.lights is None else self.lights.tolist()
        return {value: lights[value] for value in self.used if value < len(lights)}

    def palette(self, ignore_index: int) -> dict[int, int]:
        """The same of a palette's indices but the ignored one, where they tell anything.

        They do not if two show the same colour, or all the grey of their own number.
        """
        shades = self.shades if self.kind == "palette" else {}
        shades = {index: colour for index, colour in shades.items() if index != ignore_index}
        is_scale = any(shades) and all(colour == index * _GREY for index, colour in shades.items())
        is_clear = len(set(shades.values())) == len({*self.used} - {ignore_index})
        return shades if is_clear and not is_scale else {}


@dataclass(frozen=True, kw_only=True)
class DecodedMask:
    """Class ids, and what other masks of the dataset have to agree with."""

    ids: np.ndarray = field(compare=False)
    """[H, W]: uint8, or int32 if the file has 16 bits or the ignore index is above 255."""
    by_colour: bool = False
    """Whether colours count, and not indices or greys."""
    is_mapped: bool = False
    """Whether the file holds indices or greys nevertheless."""
    palette: dict[int, int] = field(default_factory=dict)
    """Where indices count, the numbers of their colours."""
    is_named: bool = False
    """Whether all these are colours of classes, or of pixels that count nowhere."""
    grey: Literal["ids", "either"] | None = None
    """Where greys count: whether they can only be ids, or are colours of other classes as well. None of no such mask,
    and where both are the same."""


def read_mask(path: Path, coding: MaskCoding | None = None, decoding: Decoding = PLAIN) -> np.ndarray:
    """A mask as class ids [H, W]: uint8, or int32 if it has 16 bits or an ignore index above 255. Raises ImageError.

    The file is a palette, greyscale of up to 16 bits, or RGB where the coding knows its colours (alpha is dropped).
    It is not turned, as a mask fits its image as that is seen; but a TIFF is, as all decoders do it, unless the
    decoding of its image ignores orientations.
    """
    return decode_mask(read_file(path), path, coding, decoding).ids


def decode_mask(
    content: bytes, path: Path, coding: MaskCoding | None = None, decoding: Decoding = PLAIN
) -> DecodedMask:
    """`read_mask` of a file that was read already; the path is for messages.

    Where the coding has values, they count. Otherwise the indices of a palette count as ids, unless one of them has
    the colour of another class: then all colours do. So do greys of which one can be no id.
    """
    coding = coding or MaskCoding()
    file = open_mask(content, path, decoding)
    if coding.values and (values := _values(file)) is not None:
        return DecodedMask(ids=_ids_of_values(values, path, coding))
    if file.kind == "colour":
        return DecodedMask(ids=_ids_of_colours(file.pixels, path, coding), by_colour=True)
    if coding.table:
        return DecodedMask(ids=_narrow(np.take(np.array(coding.table, np.int32), file.pixels, mode="clip"), coding))
    shades, named = file.shades, coding.named
    is_named = len(shades) == len(file.used) and named.keys() >= set(shades.values())
    palette = file.palette(coding.ignore_index)
    if file.kind == "grey":
        # A grey of an id may well be the colour of some other class: only what is no id at all tells.
        others = {value for value in shades if value >= len(coding.colours)} - {coding.ignore_index}
        by_colour = is_named and bool(others)
    else:
        by_colour = any(named.get(colour, index) != index for index, colour in palette.items())
        if by_colour and not is_named:
            raise ImageError(_contradiction(path, palette, coding))
    if by_colour:
        lights = np.zeros(file.used[-1] + 1, np.int32)
        lights[list(shades)] = list(shades.values())
        return DecodedMask(ids=_ids_of_colours(lights[file.pixels], path, coding), by_colour=True, is_mapped=True)
    grey = None
    if file.kind == "grey" and coding.colours:
        same = is_named and all(named[colour] == value for value, colour in shades.items())
        grey = None if same else "either" if is_named else "ids"
    known = is_named or named.keys() >= set(palette.values())
    return DecodedMask(ids=_narrow(file.pixels, coding), palette=palette, is_named=known, grey=grey)


@told()
def open_mask(content: bytes, path: Path, decoding: Decoding = PLAIN) -> MaskFile:
    """What a mask's file holds. Raises ImageError for what can be no mask."""
    image = open_picture(content, path)
    if lossy := lossy_kind(image, content):
        raise ImageError(f"{path} is {lossy}, which does not keep class ids: save the mask as PNG")
    bits = bits_of(image, content)
    if decoding.orientation == "ignore":
        image = upright(image, orientation_to_turn(image, content, path, decoding))
    if image.mode in ("RGB", "RGBA"):
        if bits > 8:
            raise deep_error(path, bits, "a mask in colour", "save it with 8 bits a channel, or ids as greyscale")
        return MaskFile(kind="colour", pixels=colour_numbers(np.asarray(in_rgb(image, path))))
    if image.mode not in ("P", "L", "1") and not image.mode.startswith("I"):
        raise ImageError(
            f"{path} is a {image.mode} image, but a mask holds class ids as a palette or greyscale PNG, or colours: "
            f"convert it"
        )
    pixels = np.asarray(image)
    if image.mode == "P":
        flat = np.array(image.getpalette("RGB"), np.uint8)
        return MaskFile(kind="palette", pixels=pixels, lights=colour_numbers(flat.reshape(-1, 3)))
    if image.mode.startswith("I"):
        if pixels.size and not 0 <= pixels.min() <= pixels.max() <= HIGHEST:
            raise ImageError(f"{path} holds values outside 0 to {HIGHEST}, which are no class ids: mend the mask")
        return MaskFile(kind="grey", pixels=pixels)
    # Pillow stretches greyscale of 2 or 4 bits over 0...255.
    step = 255 // (2**bits - 1)
    if image.mode == "L":
        pixels = pixels // step
    return MaskFile(kind="grey", pixels=pixels.astype(np.uint8), lights=np.arange(255 // step + 1) * step * _GREY)


def keeps_ids(name: str) -> bool:
    """Whether a file of this name can be a mask."""
    return name.lower().endswith(SUFFIXES_OF_MASKS)


def mask_dtype(highest: int) -> type[np.uint8] | type[np.int32]:
    """The type of masks whose ids, with the ignore index, go up to `highest`."""
    return np.uint8 if highest <= 255 else np.int32


@told()
def read_palette(path: Path) -> list[Colour] | None:
    """The RGB palette of a palette file, None for another mask."""
    flat = open_picture(read_file(path), path).getpalette("RGB")
    if flat is None:
        return None
    return [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)]


def _contradiction(path: Path, palette: dict[int, int], coding: MaskCoding) -> str:
    index = next(i for i, colour in palette.items() if coding.named.get(colour, i) != i)
    unknown = [str(list(colour_of(colour))) for colour in palette.values() if colour not in coding.named]
    nameless = f", and {_some(unknown)} to others, which it does not name" if unknown else ""
    return (
        f"the palette of {path} gives index {index} the colour {list(colour_of(palette[index]))}, which classes.yaml "
        f"gives to another class{nameless}: name all colours there, or each class's value if indices count"
    )


def _narrow(ids: np.ndarray, coding: MaskCoding) -> np.ndarray:
    narrow = ids.dtype != np.uint16 and mask_dtype(max(coding.ignore_index, *coding.table, 0)) == np.uint8
    return ids.astype(np.uint8 if narrow else np.int32)


def _values(file: MaskFile) -> np.ndarray | None:
    """Greys and indices, those of greys in three equal channels included; None of colours."""
    if file.kind != "colour":
        return file.pixels
    greys = file.pixels & 255
    return greys if np.array_equal(greys * _GREY, file.pixels) else None


def _ids_of_values(values: np.ndarray, path: Path, coding: MaskCoding) -> np.ndarray:
    table = np.full(max(coding.ignore_index, *(value for value, _ in coding.values)) + 2, -1, np.int32)
    table[coding.ignore_index] = coding.ignore_index
    for value, id in coding.values:
        table[value] = id
    ids = np.take(table, values, mode="clip")
    if unknown := np.unique(values[ids < 0]).tolist():
        shown = _some([str(value) for value in unknown])
        raise ImageError(
            f"{path} holds values that classes.yaml does not name, {shown}: add them there, with `ignore: true` if "
            f"they are to count nowhere, or mend the mask"
        )
    return ids.astype(mask_dtype(max(coding.ignore_index, *(id for _, id in coding.values))))


def _ids_of_colours(numbers: np.ndarray, path: Path, coding: MaskCoding) -> np.ndarray:
    if not coding.named:
        raise ImageError(
            f"{path} is an RGB image, but a mask holds class ids as a palette or greyscale PNG: convert it, "
            f"or, in layouts folder and voc, name every class's colour in a classes.yaml in dataset.root"
        )
    known, ids = (np.array(list(each), np.int32) for each in (coding.named.keys(), coding.named.values()))
    order = np.argsort(known)
    places = np.searchsorted(known, numbers, sorter=order).clip(max=len(known) - 1)
    found = order[places]
    if unknown := np.unique(numbers[known[found] != numbers]).tolist():
        shown = _some([str(list(colour_of(number))) for number in unknown])
        raise ImageError(
            f"{path} holds colours that classes.yaml does not name, {shown}: add them there or mend the mask"
        )
    return ids.astype(mask_dtype(int(ids.max())))[found]


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return f"{', '.join(texts[:_SHOWN])}{more}"
