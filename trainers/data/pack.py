"""A packed dataset: decoded pixels in Arrow files that are mapped into memory, so that reading a sample copies nothing.

A pack is a folder with a manifest of SHA-256 sums: `pack.json`, its card, and for each part `<part>.arrow` with the
samples in the dataset's order, uncompressed. `packing` writes it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from .dataset import Dataset, DatasetError, DatasetSettings, Inspection
from .images import is_file
from .pack_card import REMEDY, other_settings, read_card, verify_pack
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """A record batch as arrays over the mapped file. Starts are of row by row, and one more for the end."""

    heights: np.ndarray
    widths: np.ndarray
    images: np.ndarray
    image_starts: np.ndarray
    masks: np.ndarray
    mask_starts: np.ndarray
    masked: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSample:
    """A sample in a pack. Its arrays are read-only views of the mapped file, which they keep mapped."""

    id: str
    rows: _Rows = field(repr=False)
    row: int

    @property
    def has_mask(self) -> bool:
        """Whether the mask is not null."""
        return bool(self.rows.masked[self.row])

    def read_size(self) -> tuple[int, int]:
        """From their columns."""
        return int(self.rows.heights[self.row]), int(self.rows.widths[self.row])

    def read_image(self) -> np.ndarray:
        """A view."""
        start, end = self.rows.image_starts[self.row : self.row + 2]
        return self.rows.images[start:end].reshape(*self.read_size(), 3)

    def read_mask(self) -> np.ndarray | None:
        """A view."""
        if not self.has_mask:
            return None
        size = self.read_size()
        start, end = self.rows.mask_starts[self.row : self.row + 2]
        ids = self.rows.masks[start:end]
        # Four bytes a pixel may start at any address, if others of one byte lie before them.
        return (ids if len(ids) == size[0] * size[1] else ids.view(np.int32)).reshape(size)


def open_pack(folder: Path, settings: DatasetSettings) -> Dataset:
    """The dataset in a pack, of which no pixel is read. Raises DatasetError unless it is whole and of these settings.

    Damage to pixels is not noticed.
    """
    card = read_card(folder)
    if found := other_settings(settings, card):
        raise DatasetError(
            f"pack {folder} was made with other settings: {found}: restore them, or write a pack of these into "
            f"another folder by `advseg data pack`"
        )
    parts = {part: _read_part(folder / file_of(part), card.images[part], card.bytes[part]) for part in card.images}
    return Dataset(
        labelled=parts["labelled"],
        unlabelled=parts["unlabelled"],
        validation=parts["validation"],
        classes=card.classes,
        palette=card.palette,
        ignore_index=card.ignore_index,
        digest=card.digest,
    )


def inspect_pack(folder: Path, settings: DatasetSettings) -> Inspection:
    """Read all of a pack and tell what is wrong with it: what `open_pack` refuses, and any byte that has changed."""
    try:
        dataset = open_pack(folder, settings)
        verify_pack(folder)
    except DatasetError as error:
        return Inspection(dataset=None, problems=(str(error),), classes=(), parts={}, notes=())
    return Inspection(
        dataset=dataset,
        problems=(),
        classes=dataset.classes,
        parts={
            part: census(map(_counts, samples), len(dataset.classes), dataset.ignore_index)
            for part, samples in dataset.parts.items()
        },
        notes=(f"images and masks are those in the pack {folder}, whatever has become of the files since",),
    )


def _counts(sample: Sample) -> np.ndarray | None:
    """How many pixels of the mask have each id from 0; None if there is no mask."""
    mask = sample.read_mask()
    return None if mask is None else np.bincount(mask.ravel())


def file_of(part: str) -> str:
    """The name of a part's file."""
    return f"{part}.arrow"


def _read_part(path: Path, images: int, size: int) -> tuple[PackedSample, ...]:
    """The samples in a part's file, which has to have a number of them and of bytes. Raises DatasetError."""
    if not is_file(path):
        raise DatasetError(f"{path} does not exist: copy the pack as a whole, or {REMEDY}")
    if (found := path.stat().st_size) != size:
        raise DatasetError(f"{path} has {found} bytes, but must have {size}: copy the pack as a whole, or {REMEDY}")
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.schema != SCHEMA:
            raise ValueError("its columns are not those of a pack")
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        samples = tuple(sample for batch in batches for sample in _samples(batch))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read ({' '.join(str(error).split())}): {REMEDY}") from None
    if len(samples) != images:
        raise DatasetError(f"{path} has {len(samples)} samples, but must have {images}: {REMEDY}")
    return samples


def _samples(batch: pa.RecordBatch) -> Iterator[PackedSample]:
    """The samples of a record batch. Raises ValueError if the lengths of images and masks are not those of pixels."""
    ids, heights, widths, images, masks = batch.columns
    for column in (ids, heights, widths):
        column.validate(full=True)
    image_bytes, image_starts = _bytes(images)
    mask_bytes, mask_starts = _bytes(masks)
    rows = _Rows(
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
    if not fits or min(rows.heights.min(), rows.widths.min()) < 1:
        raise ValueError("lengths of images or masks do not match their heights and widths")
    return (PackedSample(id=id, rows=rows, row=row) for row, id in enumerate(ids.to_pylist()))


def _bytes(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """All bytes of a binary column, and where each row's start. Raises ValueError if a row is not within the bytes."""
    _, starts, data = column.buffers()
    offsets = np.frombuffer(starts, np.int64, len(column) + 1)
    held = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    if offsets[0] < 0 or offsets[-1] > len(held) or (np.diff(offsets) < 0).any():
        raise ValueError("images or masks lie outside the file")
    return held, offsets
