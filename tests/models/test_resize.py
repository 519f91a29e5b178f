"""At what size a network reads an image."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.models.architectures import LEAST_SIDE
from advseg.models.resize import MAX_PIXELS, MAX_SIDE, LongerSide, size_of

sides = st.integers(1, 20_000)
sizes = st.tuples(sides, sides)


@st.composite
def settings_with_a_longer_side(draw: st.DrawFn) -> LongerSide:
    multiple = draw(st.integers(1, 64))
    steps = st.integers(-(-LEAST_SIDE // multiple), MAX_SIDE // multiple)
    return LongerSide(longer=multiple * draw(steps), multiple=multiple)


@given(settings_with_a_longer_side(), sizes)
def test_the_longer_side_is_as_asked_and_the_shorter_one_in_proportion_but_for_rounding(
    resize: LongerSide, size: tuple[int, int]
) -> None:
    shorter, longer = sorted(size_of(resize, size))

    assert longer == resize.longer
    assert shorter % resize.multiple == 0
    exact = resize.longer * min(size) / max(size)
    assert LEAST_SIDE <= shorter <= longer <= MAX_SIDE
    assert shorter - exact <= resize.multiple / 2 or shorter < LEAST_SIDE + resize.multiple
    assert exact - shorter <= resize.multiple / 2
    assert shorter * longer <= MAX_PIXELS


@given(settings_with_a_longer_side(), sizes)
def test_an_image_of_that_size_keeps_it(resize: LongerSide, size: tuple[int, int]) -> None:
    assert size_of(resize, size_of(resize, size)) == size_of(resize, size)


@given(settings_with_a_longer_side(), sizes)
def test_an_image_that_is_turned_is_read_at_the_turned_size(resize: LongerSide, size: tuple[int, int]) -> None:
    height, width = size
    turned = size_of(resize, (width, height))
    assert turned == size_of(resize, size)[::-1]
    assert turned[0] <= turned[1] if width < height else turned[0] >= turned[1]


@pytest.mark.parametrize(
    ("multiple", "size", "expected"),
    [
        (1, (480, 640), (480, 640)),
        (1, (3000, 4000), (480, 640)),
        (1, (4000, 3000), (640, 480)),
        (1, (48, 64), (480, 640)),
        (1, (500, 500), (640, 640)),
        (1, (1, 10_000), (8, 640)),
        (32, (333, 500), (416, 640)),
        (32, (500, 1), (640, 32)),
        (64, (350, 640), (320, 640)),
        (64, (352, 640), (384, 640)),
    ],
    ids=["same", "lying", "on end", "enlarged", "square", "narrow", "nearest", "least", "below half", "half"],
)
def test_of_a_longer_side(multiple: int, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert size_of(LongerSide(longer=640, multiple=multiple), size) == expected


@given(sizes)
def test_without_a_longer_side_it_is_the_one_size_or_the_images_own(size: tuple[int, int]) -> None:
    assert size_of((40, 56), size) == (40, 56)
    assert size_of(None, size) == size


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"longer": 7}, r"^longer must be in \[8, 8000\], but is 7$"),
        ({"longer": 8001}, r"^longer must be in \[8, 8000\], but is 8001$"),
        ({"longer": 64, "multiple": 0}, "^multiple must be at least 1, but is 0$"),
        ({"longer": 640, "multiple": 7}, "^longer must be a multiple of multiple, but longer is 640 and multiple 7$"),
        ({"longer": 8, "multiple": 16}, "^longer must be a multiple of multiple, but longer is 8 and multiple 16$"),
    ],
)
def test_what_is_out_of_range_is_told(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LongerSide(**values)
