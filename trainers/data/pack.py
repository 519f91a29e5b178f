"""A packed dataset: decoded pixels in Arrow files that are mapped into memory, so that reading a sample copies nothing.

A pack is a folder with a manifest of SHA-256 sums: `pack.json`, its card, and shards, `<part>-<number>.arrow`, with a
part's samples in the dataset's order, uncompressed. `packing` writes it. Shards may be brought into the folder when
they are first read.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .dataset import Dataset, DatasetError, DatasetSettings, Inspection
from .images import is_file
from .notes import notes_on_masks
from .pack_card import PARTS, REMEDY, ShardCard, other_settings, read_card, verify_pack
from .readings import census
from .samples import Sample

SCHEMA = pa.schema(
    [
        ("id", pa.utf8()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        # uint8 RGB [H, W, 3].
        ("image", pa.large_binary()),
        # Class ids [H, W] in one byte (uint8) or four (int32) a pixel; null where there is no mask.
        ("mask", pa.large_binary()),
    ]
)


Bring = Callable[[str], object]
"""Sees to it that a file of a pack, by its name, is in the pack's folder. May be called from several threads."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """A shard's samples as arrays over the mapped file. Starts are of row by row, and one more for the end."""

    ids: list[str]
    heights: np.ndarray
    widths: np.ndarray
    images: np.ndarray
    image_starts: np.ndarray
    masks: np.ndarray
    mask_starts: np.ndarray
    masked: np.ndarray


class _Shard:
    """A file of a part, which is mapped when something of it is read, and stays so."""

    def __init__(self, path: Path, card: ShardCard, bring: Bring | None) -> None:
        self._path = path
        self._card = card
        self._bring = bring
        self._rows: _Rows | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process maps it itself.
        return _Shard, (self._path, self._card, self._bring)

    @property
    def rows(self) -> _Rows:
        """Raises DatasetError, and what bringing it raises."""
        rows = self._rows
        if rows is None:
            if self._bring:
                self._bring(self._path.name)
            # Two threads may both map it: the same bytes.
            rows = self._rows = _read_shard(self._path, self._card)
        return rows


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSample:
    """A sample in a pack. Its arrays are read-only views of the mapped file, which they keep mapped."""

    shard: _Shard = field(repr=False)
    row: int

    @property
    def id(self) -> str:
        """From its column."""
        return self.shard.rows.ids[self.row]

    @property
    def has_mask(self) -> bool:
        """Whether the mask is not null."""
        return bool(self.shard.rows.masked[self.row])

    def read_size(self) -> tuple[int, int]:
        """From their columns."""
        rows = self.shard.rows
        return int(rows.heights[self.row]), int(rows.widths[self.row])

    def read_image(self) -> np.ndarray:
        """A view."""
        rows = self.shard.rows
        start, end = rows.image_starts[self.row : self.row + 2]
        return rows.images[start:end].reshape(*self.read_size(), 3)

    def read_mask(self) -> np.ndarray | None:
        """A view."""
        if not self.has_mask:
            return None
        rows, size = self.shard.rows, self.read_size()
        start, end = rows.mask_starts[self.row : self.row + 2]
        ids = rows.masks[start:end]
        # Four bytes a pixel may start at any address, if others of one byte lie before them.
        return (ids if len(ids) == size[0] * size[1] else ids.view(np.int32)).reshape(size)


def open_pack(folder: Path, settings: DatasetSettings, bring: Bring | None = None) -> Dataset:
    """The dataset in a pack, of which no pixel is read. Raises DatasetError unless it is whole and of these settings.

    Damage to pixels is not noticed. With `bring` the folder holds the card and the manifest, and shards come when
    something of them is read; what is wrong with one is told then.
    """
    card = read_card(folder)
    if found := other_settings(settings, card):
        raise DatasetError(
            f"pack {folder} was made with other settings: {found}: restore them, or write a pack of these into "
            f"another folder by `advseg data pack`"
        )
    parts: dict[str, tuple[PackedSample, ...]] = {}
    for part, cards in card.shards.items():
        shards = [_Shard(folder / file_of(part, number), each, bring) for number, each in enumerate(cards)]
        if not bring:
            for shard in shards:
                _ = shard.rows
        parts[part] = tuple(
            PackedSample(shard=shard, row=row)
            for shard, each in zip(shards, cards, strict=True)
            for row in range(each.images)
        )
    return Dataset(
        labelled=parts["labelled"],
        unlabelled=parts["unlabelled"],
        validation=parts["validation"],
        test=parts["test"],
        classes=card.classes,
        palette=card.palette,
        ignore_index=card.ignore_index,
        decoding=settings.decoding,
        digest=card.digest,
        notes=card.notes,
        resized=card.resize,
    )


def inspect_pack(folder: Path, settings: DatasetSettings) -> Inspection:
    """Read all of a pack and tell what is wrong with it: what `open_pack` refuses, and any byte that has changed."""
    try:
        dataset = open_pack(folder, settings)
        verify_pack(folder)
    except DatasetError as error:
        return Inspection(dataset=None, problems=(str(error),), classes=(), parts={}, notes=())
    parts = {
        part: census(map(_counts, samples), len(dataset.classes), dataset.ignore_index)
        for part, samples in dataset.parts.items()
    }
    return Inspection(
        dataset=dataset,
        problems=(),
        classes=dataset.classes,
        parts=parts,
        notes=(
            f"images and masks are those in the pack {folder}, whatever has become of the files since",
            *(dataset.notes or notes_on_masks(parts, dataset.classes)),
        ),
    )


def _counts(sample: Sample) -> np.ndarray | None:
    """How many pixels of the mask have each id from 0; None if there is no mask."""
    mask = sample.read_mask()
    return None if mask is None else np.bincount(mask.ravel())


def file_of(part: str, number: int) -> str:
    """The name of a part's shard."""
    return f"{part}-{number:05}.arrow"


def is_shard(name: str) -> bool:
    """Whether a file of this name is one."""
    return re.fullmatch(rf"({'|'.join(PARTS)})-\d{{5,}}\.arrow", name) is not None


def _read_shard(path: Path, card: ShardCard) -> _Rows:
    """The samples in a shard, which has to be as the pack's card says. Raises DatasetError."""
    if not is_file(path):
        raise DatasetError(f"{path} does not exist: copy the pack as a whole, or {REMEDY}")
    if (found := path.stat().st_size) != card.bytes:
        raise DatasetError(
            f"{path} has {found} bytes, but must have {card.bytes}: copy the pack as a whole, or {REMEDY}"
        )
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.schema != SCHEMA:
            raise ValueError("its columns are not those of a pack")
        if reader.num_record_batches != 1:
            raise ValueError(f"it has {reader.num_record_batches} record batches, but a shard has one")
        rows = _rows_of(reader.get_batch(0))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read ({' '.join(str(error).split())}): {REMEDY}") from None
    if len(rows.ids) != card.images:
        raise DatasetError(f"{path} has {len(rows.ids)} samples, but must have {card.images}: {REMEDY}")
    return rows


def _rows_of(batch: pa.RecordBatch) -> _Rows:
    """A record batch as arrays. Raises ValueError if the lengths of images and masks are not those of pixels."""
    ids, heights, widths, images, masks = batch.columns
    for column in (ids, heights, widths):
        column.validate(full=True)
    image_bytes, image_starts = _bytes(images)
    mask_bytes, mask_starts = _bytes(masks)
    rows = _Rows(
        ids=ids.to_pylist(),
        heights=heights.to_numpy(),
        widths=widths.to_numpy(),
        images=image_bytes,
        image_starts=image_starts,
        masks=mask_bytes,
        mask_starts=mask_starts,
        masked=masks.is_valid().to_numpy(zero_copy_only=False),
    )
    pixels = rows.heights.astype(np.int64) * rows.widths
    of_masks = np.diff(mask_starts)[rows.masked]
    fits = np.array_equal(np.diff(image_starts), 3 * pixels)
    fits &= bool(((of_masks == pixels[rows.masked]) | (of_masks == 4 * pixels[rows.masked])).all())
    if not fits or not rows.ids or min(rows.heights.min(), rows.widths.min()) < 1:
        raise ValueError("lengths of images or masks do not match their heights and widths")
    return rows


def _bytes(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """All bytes of a binary column, and where each row's start. Raises ValueError if a row is not within the bytes."""
    _, starts, data = column.buffers()
    offsets = np.frombuffer(starts, np.int64, len(column) + 1)
    held = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    if offsets[0] < 0 or offsets[-1] > len(held) or (np.diff(offsets) < 0).any():
        raise ValueError("images or masks lie outside the file")
    return held, offsets
