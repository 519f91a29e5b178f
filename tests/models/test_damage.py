"""Damage within JPEGs is told, of a seeded set of files; what only looks like it is not."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

from advseg.models.damage import damage_in
from advseg.models.decoding import PLAIN
from advseg.models.photographs import rgb_of
from advseg.trainers.data.dataset import DatasetSettings
from advseg.trainers.data.images import ImageError, decode_image
from advseg.trainers.data.opening import inspect_dataset
from advseg.trainers.prediction import read_scene

FILES = 40
BLOCK = 4096
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "without subsampling": {"subsampling": 0},
    "with restarts": {"restart_marker_rows": 1},
}


def jpeg(mode: str = "RGB", **how: Any) -> bytes:
    """A noisy picture over a smooth one, of some 40 kB."""
    y, x = np.mgrid[:200, :300]
    smooth = np.stack([127 + 60 * np.sin(x / 17 + y / 9), 127 + 80 * np.cos(x / 31), (x + y) % 256], -1)
    pixels = (smooth + np.random.default_rng(0).normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=92, **how)
    return file.getvalue()


def overwritten(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def in_scan(content: bytes, random: Random, room: int) -> int:
    """A place among the entropy-coded bytes, with so many of them after it."""
    return random.randrange(content.index(b"\xff\xda") + 14, len(content) - 2 - room)


def wrong_byte(content: bytes, random: Random) -> bytes:
    at = in_scan(content, random, 1)
    return overwritten(content, at, bytes([(content[at] + random.randrange(1, 256)) % 256]))


def lost_block(content: bytes, random: Random) -> bytes:
    return overwritten(content, in_scan(content, random, BLOCK), bytes(BLOCK))


def cut(content: bytes, random: Random) -> bytes:
    return content[: in_scan(content, random, 1)]


def pillow_tells(content: bytes) -> bool:
    try:
        decode_image(content, "x.jpg")
    except ImageError:
        return True
    return False


def share_told(content: bytes, damage: Callable[[bytes, Random], bytes]) -> float:
    random = Random(15)
    files = [damage(content, random) for _ in range(FILES)]
    return sum(bool(damage_in(file)) or pillow_tells(file) for file in files) / FILES


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_end_shows_in_all_files_a_lost_block_in_nearly_all_and_one_wrong_byte_in_a_quarter(kind: str) -> None:
    content = jpeg(**KINDS[kind])

    assert share_told(content, cut) == 1
    assert share_told(content, lambda file, _: file[:-2]) == 1
    assert share_told(content, lost_block) >= 0.85
    assert share_told(content, wrong_byte) >= 0.25


def test_pillow_alone_would_have_passed_over_nearly_all() -> None:
    content, random = jpeg(), Random(15)
    assert sum(pillow_tells(lost_block(content, random)) for _ in range(FILES)) <= FILES / 20


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_has_none(kind: str, mode: str) -> None:
    assert damage_in(jpeg(mode, **KINDS[kind])) == ""


@pytest.mark.parametrize("padding", [b"\0", b"\xff"])
def test_padding_before_the_end_and_data_after_it_are_none(padding: bytes) -> None:
    content = jpeg()
    assert damage_in(content[:-2] + 64 * padding + content[-2:] + b"from the camera") == ""


def png() -> bytes:
    file = BytesIO()
    mask = Image.fromarray(np.random.default_rng(0).integers(0, 3, (30, 40), np.uint8))
    mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    mask.save(file, "PNG", dpi=(72, 72))
    return file.getvalue()


def test_every_flipped_bit_of_a_png_shows() -> None:
    content = png()
    assert damage_in(content) == damage_in(content + b"and more") == ""
    for at in range(8, len(content)):
        assert damage_in(overwritten(content, at, bytes([content[at] ^ 1 << at % 8])))


def test_so_does_every_lost_end_of_it() -> None:
    content = png()
    assert all(damage_in(content[:end]) for end in range(8, len(content)))


@pytest.mark.parametrize("format", ["BMP", "TIFF", "WEBP"])
def test_other_formats_have_none(format: str) -> None:
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, format)
    assert damage_in(file.getvalue()) == ""


def test_a_dataset_with_a_damaged_mask_names_it(voc_tree: Path) -> None:
    for mask in (voc_tree / "SegmentationClass").iterdir():
        content = mask.read_bytes()
        # Of the checksum of the last chunk but one, that of the pixels.
        mask.write_bytes(overwritten(content, len(content) - 13, bytes([content[-13] ^ 1])))

    problems = inspect_dataset(DatasetSettings(root=voc_tree, labelled="train", unlabelled="train_aug")).problems

    told = [problem for problem in problems if "is not what its checksum says): replace it" in problem]
    assert told and told[0].startswith(str(voc_tree / "SegmentationClass"))


def test_a_dataset_with_a_damaged_image_names_it(voc_tree: Path) -> None:
    image = next((voc_tree / "JPEGImages").iterdir())
    image.write_bytes(lost_block(jpeg(), Random(15)))

    problems = inspect_dataset(DatasetSettings(root=voc_tree, labelled="train", unlabelled="train_aug")).problems

    told = [problem for problem in problems if "is damaged (Corrupt JPEG data: " in problem]
    assert (
        told and told[0].startswith(str(image)) and told[0].endswith("): replace it, or save it anew if it looks whole")
    )


@pytest.mark.parametrize("read", [rgb_of, lambda path: read_scene(path, PLAIN)], ids=["python", "command"])
def test_no_model_is_shown_a_damaged_image(tmp_path: Path, read: Callable[[Path], np.ndarray]) -> None:
    image = tmp_path / "photo.jpg"
    image.write_bytes(jpeg())
    assert read(image).shape == (200, 300, 3)
    image.write_bytes(overwritten(jpeg(), 20_000, bytes(400)))

    with pytest.raises(
        (ValueError, ImageError), match=r"photo\.jpg is damaged \(Corrupt JPEG data: .*\): replace it, or"
    ) as caught:
        read(image)

    assert len(str(caught.value).splitlines()) == 1
