"""The lists that say which images make up a part of a dataset, in every form that published splits have."""

import pickletools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...models.regular_file import read_regular
from ..errors import UserError
from .images import SUFFIXES

_IMAGE = "(?:" + "|".join(map(re.escape, SUFFIXES)) + ")"
_PAIR = re.compile(rf"(.+?{_IMAGE})\s+(\S.*{_IMAGE})", re.IGNORECASE)

_MEMO = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_HEADERS = {"PROTO", "FRAME"}
_NEW_LIST = {"EMPTY_LIST", "LIST"}
_NUMBERS = {"INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1"}
_LIST = {"MARK", "APPEND", "APPENDS", "STOP"} | _HEADERS | _NEW_LIST | _NUMBERS
_ARRAY_WORDS = {
    *("numpy", "ndarray", "dtype", "_reconstruct", "_frombuffer", "<", "C"),
    *("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric"),
}
_ARRAY_TYPES = {"i4", "i8"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of a list: an image, by id or path, and its mask's path where the line names one."""

    image: str
    mask: str | None = None


def is_list_file(name: str) -> bool:
    """Whether the name of a list is the path of a file, and not a name among a layout's own lists."""
    return "/" in name or name.endswith((".txt", ".pkl"))


def has_image_suffix(text: str) -> bool:
    """Whether a text is the path of an image, and not an id."""
    return text.lower().endswith(SUFFIXES)


def read_list(path: Path) -> list[Entry]:
    """The entries of a list, one a line; blank lines do not count.

    Raises UserError for no list, an empty one, and lines of more than two parts.
    """
    try:
        lines = _lines(path)
    except FileNotFoundError:
        raise UserError(f"list {path} does not exist: write one image id per line, or name another list") from None
    except OSError as error:
        raise UserError(f"list {path} cannot be read ({error.strerror}): write one image id per line") from None
    except UnicodeDecodeError:
        raise UserError(f"list {path} is not UTF-8 text: save it as such") from None
    entries = []
    for number, line in lines:
        try:
            entries.append(parse_entry(line))
        except ValueError as error:
            raise UserError(f"line {number} of list {path} {error}") from None
    if not entries:
        raise UserError(f"list {path} is empty: it must name at least one image")
    return entries


def parse_entry(line: str) -> Entry:
    """The entry in a line that is not blank.

    It is an image and a mask if it has a tab, or if it falls into two parts that both end as image files do.
    Otherwise all of it is the image's, as spaces may be part of an id. Raises ValueError for more than two parts.
    """
    if "\t" in line:
        parts = [part.strip() for part in line.split("\t") if part.strip()]
        if len(parts) > 2:
            raise ValueError(f"has {len(parts)} parts between tabs, but may have two: an image and its mask")
        return Entry(image=parts[0], mask=parts[1] if parts[1:] else None)
    pair = _PAIR.fullmatch(line) if has_image_suffix(line) else None
    return Entry(image=pair[1], mask=pair[2]) if pair else Entry(image=line)


def read_order(path: Path, count: int) -> list[int]:
    """A permutation of the indices from 0 to count - 1: in a text file, or pickled in a .pkl, which is not unpickled.

    Raises UserError for anything else.
    """
    pickled = path.suffix == ".pkl"
    try:
        if pickled:
            order = _pickled(read_regular(path))
        else:
            order = [int(word) for _, line in _lines(path) for word in line.split()]
    except FileNotFoundError:
        raise UserError(f"order {path} does not exist: name a file of indices into the labelled list") from None
    except OSError as error:
        raise UserError(f"order {path} cannot be read ({error.strerror}): name a file of indices") from None
    except ValueError:
        kind = "pickled list or array of whole numbers" if pickled else "list of whole numbers"
        python = f"import pickle; print(*pickle.load(open('{path.name}', 'rb')), sep='\\n')"
        remedy = f'if you trust it, run python -c "{python}" > {path.stem}.txt and name that' if pickled else "mend it"
        raise UserError(f"order {path} is no {kind}: {remedy}") from None
    if sorted(order) != list(range(count)):
        different, outside = len(set(order)), sum(not 0 <= index < count for index in order)
        raise UserError(
            f"order {path} holds {len(order)} indices, {different} of them different and {outside} out of range, but "
            f"must hold each of 0 to {count - 1} once: set dataset.labelled to the list that it was made for"
        )
    return order


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, without surrounding white space, with their numbers from 1."""
    text = read_regular(path).decode("utf-8-sig")
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _pickled(content: bytes) -> list[int]:
    """The whole numbers in a pickled list or NumPy array, read off its opcodes; nothing is carried out.

    Raises ValueError for anything else.
    """
    steps: list[tuple[str, Any]] = [
        (code.name, value) for code, value, _ in pickletools.genops(content) if code.name not in _MEMO
    ]
    names = [name for name, _ in steps]
    if _LIST.issuperset(names):
        numbers = [value for name, value in steps if name in _NUMBERS]
        # Protocol 0 writes True as the number 01.
        if sum(name in _NEW_LIST for name in names) != 1 or any(isinstance(number, bool) for number in numbers):
            raise ValueError("not one list of whole numbers")
        return numbers
    # An array is its type's name and its bytes, among words that only say how to put them together.
    words = {word for _, value in steps if isinstance(value, str) for word in value.split()}
    types = words & _ARRAY_TYPES
    contents = [value for _, value in steps if isinstance(value, bytes | bytearray) and len(value) > 1]
    if words - types - _ARRAY_WORDS or len(types) != 1 or len(contents) != 1:
        raise ValueError("not one array of whole numbers")
    return np.frombuffer(contents[0], f"<{types.pop()}").tolist()
