"""Images of 16 bits by a stated scale, and as they lie where what they say of it does not count."""

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from advseg.models.decoding import PLAIN, Decoding
from advseg.models.photographs import rgb_of
from advseg.models.picture_files import PictureError, decode_picture

TWELVE = Decoding(scale=(100, 4095))
VALUES = np.random.default_rng(0).integers(0, 5000, (9, 12, 3), np.uint16)
EXPECTED = np.floor((np.clip(VALUES.astype(float), 100, 4095) - 100) / 3995 * 255 + 0.5).astype(np.uint8)
IGNORE = Decoding(orientation="ignore")


def encoded(values: np.ndarray, suffix: str) -> bytes:
    """A file of grey or RGB values of 16 bits."""
    return cv2.imencode(suffix, values[..., ::-1] if values.ndim == 3 else values)[1].tobytes()


def lying(format: str, orientation: int, **how: Any) -> tuple[bytes, np.ndarray]:
    """An image that is to be turned, and its pixels as they lie."""
    pixels = np.zeros((10, 14, 3), np.uint8)
    pixels[:5, :7] = 255
    exif, file = Image.Exif(), BytesIO()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(file, format, exif=exif, **how)
    return file.getvalue(), pixels


def tiff(values: np.ndarray, orientation: int) -> bytes:
    """A TIFF of RGB values of 16 bits that says how it lies, which no library here writes."""
    height, width, _ = values.shape
    short, long = 3, 4
    tags = [(256, short, 1, width), (257, short, 1, height), (258, short, 3, 8), (259, short, 1, 1), (262, short, 1, 2)]
    tags += [(273, long, 1, 14), (274, short, 1, orientation), (277, short, 1, 3), (278, short, 1, height)]
    tags += [(279, long, 1, values.nbytes)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    head = struct.pack("<2sHI3H", b"II", 42, 14 + values.nbytes, 16, 16, 16)
    return head + values.astype("<u2").tobytes() + directory


class TestScale:
    def test_is_linear_rounded_to_the_nearest_and_cut_at_both_ends(self) -> None:
        scaled = Decoding(scale=(1000, 1510)).scaled(np.array([0, 1000, 1001, 1002, 1255, 1510, 65535], np.uint16))
        assert scaled.tolist() == [0, 0, 1, 1, 128, 255, 255]

    @pytest.mark.parametrize("suffix", [".png", ".tiff"])
    @pytest.mark.parametrize("is_grey", [True, False], ids=["grey", "rgb"])
    def test_reads_files_of_sixteen_bits(self, suffix: str, is_grey: bool) -> None:
        values, expected = (VALUES[..., 0], EXPECTED[..., :1]) if is_grey else (VALUES, EXPECTED)
        content = encoded(values, suffix)

        assert np.array_equal(decode_picture(content, "x", TWELVE), np.broadcast_to(expected, EXPECTED.shape))
        with pytest.raises(PictureError, match=r"x has 16 bits a channel.*: convert it to 8 bits$"):
            decode_picture(content, "x")

    def test_leaves_images_of_eight_bits_as_they_are(self) -> None:
        file = BytesIO()
        Image.fromarray(EXPECTED).save(file, "PNG")
        assert np.array_equal(decode_picture(file.getvalue(), "x", TWELVE), EXPECTED)

    def test_reads_arrays_tensors_and_images_of_pillow_as_it_reads_files(self, tmp_path: Path) -> None:
        (path := tmp_path / "x.png").write_bytes(encoded(VALUES[..., 0], ".png"))
        given = [path, VALUES[..., 0], torch.from_numpy(VALUES[None, ..., 0].copy()), Image.open(path)]
        for image in given:
            assert np.array_equal(rgb_of(image, TWELVE), np.broadcast_to(EXPECTED[..., :1], EXPECTED.shape))
            with pytest.raises(ValueError, match=r"scale|uint8|convert it to 8 bits"):
                rgb_of(image)

    def test_reads_no_more_than_sixteen_bits(self) -> None:
        file = BytesIO()
        Image.fromarray(VALUES[..., 0].astype(np.float32)).save(file, "TIFF")
        with pytest.raises(PictureError, match="x has 32 bits a channel of a kind that is not read: save it with 16"):
            decode_picture(file.getvalue(), "x", TWELVE)

    @pytest.mark.parametrize("scale", [(5, 5), (9, 3), (-1, 4), (0, 65536)])
    def test_must_rise_within_sixteen_bits(self, scale: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match=r"scale must rise from 0 or more to 65535 or less, but is \["):
            Decoding(scale=scale)


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(2, 9))
    @pytest.mark.parametrize(
        ("format", "how"),
        [
            ("PNG", {}),
            ("JPEG", {"quality": 95, "subsampling": 0}),
            ("TIFF", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
        ],
        ids=["PNG", "JPEG", "TIFF", "compressed TIFF"],
    )
    def test_may_be_ignored(self, format: str, how: dict[str, Any], orientation: int) -> None:
        content, pixels = lying(format, orientation, **how)
        assert np.abs(decode_picture(content, "x", IGNORE).astype(int) - pixels).max() < 9
        turned = decode_picture(content, "x")
        assert turned.shape != pixels.shape or np.abs(turned.astype(int) - pixels).max() > 200

    @pytest.mark.parametrize("decoding", [PLAIN, IGNORE], ids=["exif", "ignore"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("format", ["PNG", "TIFF"])
    def test_counts_of_pillows_image_as_of_its_file(self, format: str, orientation: int, decoding: Decoding) -> None:
        content, _ = lying(format, orientation)
        of_file = decode_picture(content, "x", decoding)
        assert np.array_equal(rgb_of(Image.open(BytesIO(content)), decoding), of_file)
        if format == "PNG" or decoding == PLAIN:
            loaded = Image.open(BytesIO(content))
            loaded.load()
            assert np.array_equal(rgb_of(loaded, decoding), of_file)

    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_of_sixteen_bits_is_that_of_eight(self, orientation: int, tmp_path: Path) -> None:
        upright, lies = Decoding(scale=(0, 255)), Decoding(scale=(0, 255), orientation="ignore")
        for format in ("PNG", "TIFF"):
            content, pixels = lying(format, orientation)
            file = BytesIO()
            exif = Image.Exif()
            exif[ExifTags.Base.Orientation] = orientation
            Image.fromarray(pixels[..., 0].astype(np.uint16)).save(file, format, exif=exif)
            for decoding in (upright, lies):
                deep = decode_picture(file.getvalue(), "x", decoding)
                assert np.array_equal(deep, decode_picture(content, "x", decoding))

    def test_of_a_tiff_in_colour_of_sixteen_bits_counts_or_not(self) -> None:
        content = tiff(VALUES, orientation=6)
        lies = Decoding(scale=(100, 4095), orientation="ignore")
        assert np.array_equal(decode_picture(content, "x", lies), EXPECTED)
        assert np.array_equal(decode_picture(content, "x", TWELVE), np.rot90(EXPECTED, -1))
