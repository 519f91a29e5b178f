"""Files that say of what they were made, and show whether they are as they were."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from advseg.trainers.data.images import mask_image
from advseg.trainers.marked import is_ours, made_of, marked_npz, marked_png, origin_of

IDS = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
COLOURS = [(0, 0, 0), (9, 9, 9), (0, 200, 0)]
FILES = {
    "palette": marked_png(mask_image(IDS, COLOURS), "x"),
    "16 bits": marked_png(mask_image(IDS, COLOURS * 100), "x"),
    "grey": marked_png(Image.fromarray(IDS), "x"),
    "RGB": marked_png(Image.new("RGB", (4, 3), "red"), "x"),
    "arrays": marked_npz(np.random.default_rng(0).random((3, 3, 4)).astype(np.float16), ["a", "b", "ü"], "x"),
}
each_file = pytest.mark.parametrize("content", FILES.values(), ids=FILES)


@each_file
def test_a_file_says_of_what_it_was_made(content: bytes) -> None:
    assert (is_ours(content), origin_of(content)) == (True, "x")


def saved_again(content: bytes, change: bool, compress_level: int = 1) -> bytes:
    with Image.open(BytesIO(content)) as image:
        image.load()
    texts = PngInfo()
    for key, value in image.text.items():
        texts.add_text(key, value)
    if change:
        image.putpixel((1, 1), image.getpixel((0, 0)))
    out = BytesIO()
    image.save(out, format="PNG", pnginfo=texts, compress_level=compress_level)
    return out.getvalue()


def test_an_image_is_known_by_its_pixels_however_it_is_compressed() -> None:
    assert origin_of(saved_again(FILES["palette"], change=False)) == "x"
    changed = saved_again(FILES["palette"], change=True)
    assert (is_ours(changed), origin_of(changed)) == (True, None)


def test_an_image_of_other_colours_was_changed() -> None:
    with Image.open(BytesIO(FILES["palette"])) as image:
        texts = PngInfo()
        for key, value in image.text.items():
            texts.add_text(key, value)
        image.putpalette([7] * 9)
        out = BytesIO()
        image.save(out, format="PNG", pnginfo=texts)
    assert (is_ours(out.getvalue()), origin_of(out.getvalue())) == (True, None)


@pytest.mark.parametrize("software", [None, "GIMP", "advseg predict"])
def test_what_another_program_wrote_is_not_ours(software: str | None) -> None:
    texts, out = PngInfo(), BytesIO()
    if software:
        texts.add_text("Software", software)
    Image.new("L", (3, 3)).save(out, format="PNG", pnginfo=texts)
    assert (is_ours(out.getvalue()), origin_of(out.getvalue())) == (False, None)
    np.savez(out := BytesIO(), probabilities=np.zeros(3), mark=np.array([software or "", "x", "y"]))
    assert origin_of(out.getvalue()) is None


@each_file
@given(data=st.data())
def test_a_damaged_file_is_not_as_it_was(content: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(content) - 1))
    assert origin_of(content[:cut]) is None


@given(content=st.binary(max_size=100), head=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04"]))
def test_anything_else_is_not_ours(content: bytes, head: bytes) -> None:
    assert origin_of(head + content) is None


def test_all_that_determines_a_mask_makes_a_difference() -> None:
    given = made_of("model", b"image", averaged=False)
    assert given == made_of("model", b"image", averaged=False)
    others = {
        made_of("other", b"image", averaged=False),
        made_of("model", b"other", averaged=False),
        made_of("model", b"image", averaged=True),
    }
    assert len({given, *others}) == 4
