import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from advseg.trainers.data.images import (
    MAX_PIXELS,
    ImageError,
    read_image,
    read_mask,
    read_palette,
    voc_palette,
    write_mask,
)

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "picture.png"


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG file of any header."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def test_a_colour_image_is_read_as_it_is(path):
    Image.fromarray(RGB).save(path)

    image = read_image(path)

    assert image.dtype == np.uint8
    assert np.array_equal(image, RGB)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1"])
def test_an_image_of_another_kind_becomes_colour(path, mode):
    Image.new(mode, (9, 6)).save(path)

    assert read_image(path).shape == (6, 9, 3)


def test_a_jpeg_is_read_whatever_its_name(path):
    Image.fromarray(RGB).save(path, format="JPEG")

    assert read_image(path).shape == RGB.shape


def test_a_greyscale_image_of_sixteen_bits_is_refused_as_it_would_lose_all_its_light(path):
    Image.fromarray(np.arange(54, dtype=np.uint16).reshape(6, 9) * 1000).save(path)

    with pytest.raises(ImageError, match=r"16.*convert"):
        read_image(path)


def test_a_colour_image_of_sixteen_bits_keeps_the_upper_eight(path):
    rows = b"".join(b"\0" + np.full((4, 3), 0x1234 + 0x1000 * i, ">u2").tobytes() for i in range(3))
    path.write_bytes(png(4, 3, 16, 2, rows))

    assert read_image(path)[:, 0, 0].tolist() == [0x12, 0x22, 0x32]


@pytest.mark.parametrize("mode", ["P", "L"])
def test_a_mask_holds_indices(path, mode):
    ids = np.array([[0, 1, 20], [255, 3, 7]], np.uint8)
    if mode == "P":
        write_mask(path, ids, voc_palette())
    else:
        Image.fromarray(ids).save(path)

    mask = read_mask(path)

    assert mask.dtype == np.uint8
    assert np.array_equal(mask, ids)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16", "1"])
def test_a_mask_of_another_kind_is_refused_by_name(path, mode):
    Image.new(mode, (2, 2)).save(path)

    with pytest.raises(ImageError, match=rf"picture\.png is a {mode} image, but a mask"):
        read_mask(path)


def test_a_palette_comes_back_and_a_greyscale_mask_has_none(path):
    ids = np.array([[0, 1, 2]], np.uint8)
    write_mask(path, ids, voc_palette())
    palette = read_palette(path)
    Image.fromarray(ids).save(path)

    assert palette is not None
    assert palette[:3] == [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    assert read_palette(path) is None


def test_the_palette_of_voc_has_its_published_colours():
    palette = voc_palette()

    assert len(palette) == len(set(palette)) == 256
    assert palette[15] == (192, 128, 128)
    assert palette[20] == (0, 64, 128)
    assert palette[255] == (224, 224, 192)


@pytest.mark.parametrize("side", [8001, 10_000, 20_000, 2**31 - 1])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_unpacked(path, side):
    assert side * side > MAX_PIXELS
    path.write_bytes(png(side, side, 8, 2, b""))

    with pytest.raises(ImageError, match=r"pixels.*scale it down"):
        read_image(path)


def test_a_bomb_is_refused_in_one_way_whether_warnings_are_errors_or_not(path):
    path.write_bytes(png(10_000, 10_000, 8, 2, b""))

    for action in ("ignore", "error"):
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            with pytest.raises(ImageError, match=r"pixels.*scale it down"):
                read_image(path)


def test_an_absent_file_is_named(path):
    with pytest.raises(ImageError, match=r"picture\.png does not exist"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"no image", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"])
def test_what_is_neither_png_nor_jpeg_is_refused(path, content):
    path.write_bytes(content)

    with pytest.raises(ImageError, match="neither PNG nor JPEG"):
        read_image(path)


def encoded(format: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8)).save(buffer, format=format)
    return buffer.getvalue()


ENCODED = {format: encoded(format) for format in ("PNG", "JPEG")}


@pytest.mark.parametrize("format", ENCODED)
def test_a_truncated_file_is_refused(path, format):
    path.write_bytes(ENCODED[format][: len(ENCODED[format]) // 2])

    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(path)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:.*XMP data")
@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(ENCODED)), st.data())
def test_whatever_is_wrong_with_a_file_it_is_read_or_refused(tmp_path_factory, format, data):
    content = bytearray(ENCODED[format])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content) - 1, 80)) | st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"broken.{format}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])

    try:
        image = read_image(path)
    except ImageError as error:
        assert str(path) in str(error)
    else:
        assert image.ndim == 3
        assert image.dtype == np.uint8
