"""Writing a packed dataset, which `pack` reads."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...models.manifest import write_directory
from ..errors import UserError
from ..progress import underway
from .dataset import Dataset, DatasetSettings
from .images import READERS
from .masks import mask_dtype
from .pack import SCHEMA, file_of
from .pack_card import CARD, PackCard, ShardCard, packed_settings
from .samples import Sample

SHARD_BYTES = 2**24
"""Pixels of a shard, which are held in memory together; a larger image has one of its own. A training that brings its
pack from elsewhere waits for those of its first batch, so they are small."""


def write_pack(folder: Path, dataset: Dataset, settings: DatasetSettings) -> PackCard:
    """Decode the dataset of these settings into a folder: afterwards it is there whole, or as it was before.

    The same dataset always makes the same bytes. Raises UserError if the disk has no room for them, and ImageError.
    """
    sizes = {part: _sizes(samples, dataset) for part, samples in dataset.parts.items()}
    _refuse_full_disk(folder, sum(map(sum, sizes.values())))
    card: PackCard | None = None

    def write(place: Path) -> None:
        nonlocal card
        packed = count(1)
        with underway("images packed", sum(map(len, dataset.parts.values()))) as done:
            shards = {
                part: tuple(
                    _write_shard(place / file_of(part, number), shard, lambda: done(next(packed)))
                    for number, shard in enumerate(_sharded(samples, sizes[part]))
                )
                for part, samples in dataset.parts.items()
            }
        card = PackCard(
            digest=dataset.digest,
            classes=dataset.classes,
            palette=dataset.palette,
            ignore_index=dataset.ignore_index,
            settings=packed_settings(settings),
            shards=shards,
            notes=dataset.notes,
            resize=dataset.resized,
        )
        said = asdict(card)
        if card.resize is None:
            # As packs of before, which never are.
            del said["resize"]
        (place / CARD).write_text(json.dumps(said, indent=1), encoding="utf-8")

    try:
        write_directory(folder, write)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise UserError(f"pack {folder} cannot be written ({reason}): make room, or name another folder") from None
    assert card
    return card


def _sizes(samples: Sequence[Sample], dataset: Dataset) -> list[int]:
    """The bytes that each sample takes. A mask of 16 bits takes more where all ids would fit into eight."""
    of_mask = mask_dtype(max(dataset.ignore_index, len(dataset.classes) - 1))(0).nbytes

    def size(sample: Sample) -> int:
        height, width = sample.read_size()
        return height * width * (3 + of_mask * sample.has_mask)

    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(size, samples))


def _refuse_full_disk(folder: Path, needed: int) -> None:
    place = next(parent for parent in folder.absolute().parents if parent.is_dir())
    if needed > (free := shutil.disk_usage(place).free):
        raise UserError(
            f"pack {folder} needs {gigabytes(needed)}, but its disk has {gigabytes(free)} free: make room, or name a "
            f"folder on another disk"
        )


def gigabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e9:,.2f} GB"


def _sharded(samples: Sequence[Sample], sizes: Sequence[int]) -> Iterator[list[Sample]]:
    """The samples in their order, in lists of about `SHARD_BYTES`."""
    shard: list[Sample] = []
    held = 0
    for sample, size in zip(samples, sizes, strict=True):
        if shard and held + size > SHARD_BYTES:
            yield shard
            shard, held = [], 0
        shard.append(sample)
        held += size
    if shard:
        yield shard


def _write_shard(path: Path, samples: Sequence[Sample], tell: Callable[[], None]) -> ShardCard:
    rows = []
    with ThreadPoolExecutor(READERS) as readers, pa.ipc.new_file(str(path), SCHEMA) as file:
        for row in readers.map(_row, samples):
            rows.append(row)
            tell()
        file.write_batch(pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
    return ShardCard(images=len(samples), bytes=path.stat().st_size)


def _row(sample: Sample) -> dict[str, Any]:
    image, mask = sample.read_image(), sample.read_mask()
    height, width, _ = image.shape
    pixels = None if mask is None else mask.tobytes()
    return {"id": sample.id, "height": height, "width": width, "image": image.tobytes(), "mask": pixels}
