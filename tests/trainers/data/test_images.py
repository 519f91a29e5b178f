import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from advseg.models.decoding import Decoding
from advseg.models.resize import MAX_PIXELS
from advseg.trainers.data.images import ImageError, read_image, read_size, voc_palette, write_mask
from advseg.trainers.data.masks import MaskCoding, read_mask, read_palette
from advseg.trainers.data.readings import Rules, read_sample
from advseg.trainers.data.samples import FileSample

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "picture.png"


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, more: bytes = b"") -> bytes:
    """A PNG file of any header, with further chunks."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    content = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + more + content


def test_a_colour_image_is_read_as_it_is(path):
    Image.fromarray(RGB).save(path)

    image = read_image(path)

    assert image.dtype == np.uint8
    assert np.array_equal(image, RGB)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_an_image_of_another_kind_becomes_colour(path, mode):
    Image.new(mode, (9, 6)).save(path, format="JPEG" if mode == "CMYK" else "PNG")

    assert read_image(path).shape == (6, 9, 3)


def test_greyscale_is_repeated_in_all_three_channels(path):
    Image.fromarray(RGB[..., 0]).save(path)

    assert np.array_equal(read_image(path), np.repeat(RGB[..., :1], 3, 2))


@pytest.mark.parametrize(("bits", "row"), [(1, b"\0\x50"), (2, b"\0\x33"), (4, b"\0\x0f\x0f")])
def test_greyscale_of_few_bits_is_stretched(path, bits, row):
    path.write_bytes(png(4, 1, bits, 0, row))

    assert read_image(path)[0, :, 0].tolist() == [0, 255, 0, 255]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_and_the_colour_beneath_it_stays(path, mode):
    image = Image.fromarray(RGB if mode == "RGBA" else RGB[..., 0])
    image.putalpha(0)
    image.save(path)

    assert np.array_equal(read_image(path)[..., 0], RGB[..., 0])


@pytest.mark.parametrize("transparency", [1, b"\0\x80"], ids=["one colour", "many"])
def test_so_is_the_transparency_of_a_palette(path, transparency):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(path, transparency=transparency)

    assert read_image(path).tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda image: image),
        (2, lambda image: image[:, ::-1]),
        (3, lambda image: image[::-1, ::-1]),
        (4, lambda image: image[::-1]),
        (5, lambda image: image.transpose(1, 0, 2)),
        (6, lambda image: np.rot90(image, -1)),
        (7, lambda image: image[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda image: np.rot90(image)),
        (0, lambda image: image),
        (99, lambda image: image),
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_image_is_turned_upright_as_its_exif_data_say(path, format, orientation, turned):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    smooth = np.linspace(0, 255, 16 * 24 * 3).reshape(16, 24, 3).astype(np.uint8)
    Image.fromarray(smooth).save(path, format=format, exif=exif, quality=100)

    image = read_image(path)

    assert image.shape == turned(smooth).shape
    assert read_size(path) == image.shape[:2]
    assert np.abs(image.astype(int) - turned(smooth)).max() < 16


def test_a_size_is_read_without_the_pixels(path):
    path.write_bytes(png(9, 6, 8, 2, b""))

    assert read_size(path) == (6, 9)
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(path)


def test_a_mask_is_never_turned(path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    ids = np.array([[0, 1, 2], [3, 4, 5]], np.uint8)
    Image.fromarray(ids).save(path, exif=exif)

    assert np.array_equal(read_mask(path), ids)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_but_a_tiff_is_as_all_decoders_do_it_unless_that_is_ignored(path, orientation):
    ids = np.array([[0, 1, 2], [3, 4, 5]], np.uint8)
    mask = Image.fromarray(ids)
    mask.putpalette([value for colour in voc_palette() for value in colour])
    mask.save(path, format="TIFF", tiffinfo={ExifTags.Base.Orientation: orientation})

    assert not np.array_equal(read_mask(path), ids)
    lies = Decoding(orientation="ignore")
    sample = FileSample(id="a", image=path, mask=path, decoding=lies)
    assert np.array_equal(sample.read_mask(), ids)
    reading = read_sample(sample, Rules(classes=6, ignore_index=255, maskless=str), mask=True)
    assert reading.problems == ()


def test_an_empty_file_is_called_so(path):
    path.write_bytes(b"")

    with pytest.raises(ImageError, match=r"picture\.png is empty: replace it"):
        read_image(path)


def test_a_jpeg_is_read_whatever_its_name(path):
    Image.fromarray(RGB).save(path, format="JPEG")

    assert read_image(path).shape == RGB.shape


@pytest.mark.parametrize("format", ["TIFF", "BMP", "WEBP"])
def test_other_formats_without_loss_are_read_too(path, format):
    Image.fromarray(RGB).save(path, format=format, lossless=True)

    assert np.array_equal(read_image(path), RGB)
    assert read_size(path) == (6, 9)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "LAB"])
def test_every_kind_of_tiff_becomes_colour_or_is_refused(path, mode):
    Image.new(mode, (9, 6)).save(path, format="TIFF")

    assert read_image(path).shape == (6, 9, 3)


@pytest.mark.parametrize("format", ["TIFF", "WEBP"])
def test_of_several_pictures_in_a_file_none_is_read(path, format):
    pages = [Image.fromarray(np.full((6, 9, 3), shade, np.uint8)) for shade in (0, 255)]
    pages[0].save(path, format=format, save_all=True, append_images=pages[1:])

    with pytest.raises(ImageError, match=r"picture\.png holds 2 pictures, but one is read: save each"):
        read_image(path)


@pytest.mark.parametrize("type", [np.uint16, np.int32, np.float32])
def test_a_tiff_of_more_bits_is_refused(path, type):
    Image.fromarray(np.ones((6, 9), type)).save(path, format="TIFF")

    with pytest.raises(ImageError, match=r"picture\.png has (16|32) bits a channel"):
        read_image(path)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)], ids=["grey", "RGB", "LA", "RGBA"])
def test_an_image_of_sixteen_bits_is_refused_as_it_would_lose_all_its_light(path, colour, channels):
    rows = b"".join(b"\0" + np.full((4, channels), 0x00FF, ">u2").tobytes() for _ in range(3))
    path.write_bytes(png(4, 3, 16, colour, rows))

    with pytest.raises(ImageError, match=r"picture\.png has 16 bits a channel.*convert"):
        read_image(path)


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4)], ids=["RGB", "RGBA"])
def test_so_is_a_mask_in_colour_of_sixteen_bits(path, colour, channels):
    rows = b"".join(b"\0" + np.full((4, channels), 1, ">u2").tobytes() for _ in range(3))
    path.write_bytes(png(4, 3, 16, colour, rows))

    with pytest.raises(ImageError, match=r"picture\.png has 16 bits a channel, but a mask in colour has 8.*: save it"):
        read_mask(path, MaskCoding(colours=((0, 0, 0), (255, 0, 0))))


@pytest.mark.parametrize("mode", ["1", "L", "P"])
@pytest.mark.parametrize("format", ["TIFF", "BMP"])
def test_masks_of_other_formats_hold_ids_as_well(path, format, mode):
    ids = np.array([[0, 1, 1] if mode == "1" else [0, 1, 20]], np.uint8)
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette([value for colour in voc_palette() for value in colour])
    (Image.fromarray(ids.astype(bool)) if mode == "1" else image).save(path, format=format)

    assert read_mask(path).tolist() == ids.tolist()


@pytest.mark.parametrize("value", [-1, 65536])
def test_a_mask_of_ids_that_no_class_can_have_is_refused(path, value):
    Image.fromarray(np.full((6, 9), value, np.int32)).save(path, format="TIFF")

    with pytest.raises(ImageError, match="holds values outside 0 to 65535"):
        read_mask(path)


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


@pytest.mark.parametrize("colour", [0, 3], ids=["greyscale", "palette"])
@pytest.mark.parametrize(
    ("bits", "row", "ids"),
    [
        (1, b"\0\x50", [0, 1, 0, 1]),
        (2, b"\0\x1b", [0, 1, 2, 3]),
        (4, b"\0\x01\x9f", [0, 1, 9, 15]),
        (8, b"\0\x00\x01\x09\xff", [0, 1, 9, 255]),
    ],
)
def test_masks_of_few_bits_hold_ids_as_well(path, bits, row, ids, colour):
    palette = png_chunk(b"PLTE", bytes(3 * 2**bits)) if colour else b""
    path.write_bytes(png(4, 1, bits, colour, row, palette))

    mask = read_mask(path)

    assert (mask.dtype, mask.tolist()) == (np.uint8, [ids])


def test_a_mask_of_sixteen_bits_holds_ids_up_to_65535(path):
    path.write_bytes(png(3, 1, 16, 0, b"\0\x00\x07\x01\x02\xff\xff"))

    mask = read_mask(path)

    assert (mask.dtype, mask.tolist()) == (np.int32, [[7, 258, 65535]])


def test_a_mask_can_hold_an_ignore_index_above_255(path):
    Image.fromarray(np.array([[0, 7]], np.uint8)).save(path)

    assert read_mask(path, MaskCoding(ignore_index=256)).dtype == np.int32


def test_values_stand_for_the_ids_of_a_table_the_last_for_all_higher_ones(path):
    Image.fromarray(np.array([[0, 1, 2, 3, 200]], np.uint8)).save(path)

    mask = read_mask(path, MaskCoding(table=(255, 4, 5, 255)))

    assert (mask.dtype, mask.tolist()) == (np.uint8, [[255, 4, 5, 255, 255]])


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_stand_for_the_ids_of_a_table(path, mode):
    coding = MaskCoding(ignore_index=300, colours=((255, 0, 0), (0, 0, 0)), ignored=((0, 0, 1),))
    pixels = np.array([[[0, 0, 0], [255, 0, 0], [0, 0, 1]]], np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)

    mask = read_mask(path, coding)

    assert (mask.dtype, mask.tolist()) == (np.int32, [[1, 0, 300]])


def test_ids_are_ids_though_colours_have_a_table(path):
    Image.fromarray(np.array([[1, 0]], np.uint8)).save(path)

    assert read_mask(path, MaskCoding(colours=((0, 0, 0), (1, 1, 1)))).tolist() == [[1, 0]]


def test_a_jpeg_named_png_is_no_mask(path):
    Image.new("L", (2, 2)).save(path, format="JPEG")

    with pytest.raises(ImageError, match=r"picture\.png is a JPEG, which does not keep class ids: save"):
        read_mask(path)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"format": "TIFF", "compression": "jpeg"}, "a TIFF compressed as JPEG"),
        ({"format": "WEBP"}, "a WebP with loss"),
        ({"format": "WEBP", "exif": Image.Exif()}, "a WebP with loss"),
        ({"format": "TIFF", "compression": "tiff_lzw"}, None),
        ({"format": "WEBP", "lossless": True}, None),
        ({"format": "WEBP", "lossless": True, "exif": Image.Exif()}, None),
    ],
)
def test_nor_is_what_another_format_holds_with_loss(path, how, told):
    colours = ((0, 0, 0), (255, 0, 0))
    if "exif" in how:
        how["exif"][ExifTags.Base.Software] = "a"
    Image.new("RGB", (16, 16)).save(path, **how)

    if told is None:
        assert not read_mask(path, MaskCoding(colours=colours)).any()
    else:
        with pytest.raises(ImageError, match=rf"picture\.png is {told}, which does not keep class ids: save the mask"):
            read_mask(path, MaskCoding(colours=colours))


@pytest.mark.parametrize(("classes", "mode"), [(256, "P"), (257, "I;16")])
def test_a_written_mask_is_read_again_however_many_classes_there_are(path, classes, mode):
    ids = np.array([[0, classes - 1]])

    write_mask(path, ids, voc_palette(classes))

    with Image.open(path) as image:
        assert image.mode == mode
    assert np.array_equal(read_mask(path), ids)


@pytest.mark.parametrize(("mode", "told"), [("RGB", "an RGB"), ("RGBA", "an RGB"), ("LA", "a LA")])
def test_a_mask_of_another_kind_is_refused_by_name(path, mode, told):
    Image.new(mode, (2, 2)).save(path)

    with pytest.raises(ImageError, match=rf"picture\.png is {told} image, but a mask"):
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


@pytest.mark.parametrize(("size", "is_read"), [(3_000_000, True), (70_000_000, False)])
def test_metadata_of_some_mib_are_read_over_and_a_bomb_of_them_is_refused(path, size, is_read):
    text = PngInfo()
    text.add_text("history", "y" * size, zip=True)
    Image.fromarray(RGB).save(path, pnginfo=text)

    if is_read:
        assert np.array_equal(read_image(path), RGB)
    else:
        with pytest.raises(ImageError, match="cannot be decoded"):
            read_image(path)


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


@pytest.mark.parametrize("read", [read_image, read_mask, read_size])
def test_a_pipe_is_refused_rather_than_waited_for(path, read):
    os.mkfifo(path)

    with pytest.raises(ImageError, match=r"no regular file"):
        read(path)


def test_an_absent_file_is_named(path):
    with pytest.raises(ImageError, match=r"picture\.png does not exist"):
        read_image(path)


@pytest.mark.parametrize("content", [b"no image", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"])
def test_what_is_neither_png_nor_jpeg_is_refused(path, content):
    path.write_bytes(content)

    for read in (read_image, read_size):
        with pytest.raises(ImageError, match="none of PNG, JPEG, TIFF, BMP and WebP"):
            read(path)


def encoded(format: str) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8))
    image.save(buffer, format=format, exif=exif)
    return buffer.getvalue()


ENCODED = {format: encoded(format) for format in ("PNG", "JPEG", "TIFF", "BMP", "WEBP")}


@pytest.mark.parametrize("format", ENCODED)
def test_a_truncated_file_is_refused(path, format):
    path.write_bytes(ENCODED[format][: len(ENCODED[format]) // 2])

    with pytest.raises(ImageError, match="cannot be decoded"):
        read_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of broken EXIF data.
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
