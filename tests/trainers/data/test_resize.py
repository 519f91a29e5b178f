from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.trainers.data.resize import resize_image, resize_mask

sides = st.integers(1, 250)
sizes = st.tuples(sides, sides)


def ramps(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The place of each pixel, as the red and green of an image and as the ids of a mask."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([rows, columns, rows], -1).astype(np.uint8), (1000 * rows + columns).astype(np.int32)


@settings(deadline=None)
@given(sizes, sizes)
def test_a_mask_stays_aligned_with_its_image(size, new):
    image, mask = ramps(size)

    red, green, _ = np.moveaxis(resize_image(image, new).astype(int), -1, 0)
    rows, columns = np.divmod(resize_mask(mask, new), 1000)

    # Half a pixel to the nearest centre, half a unit of rounding.
    assert abs(red - rows).max() <= 1
    assert abs(green - columns).max() <= 1


@settings(deadline=None)
@given(sizes)
def test_the_same_size_changes_nothing(size):
    image, mask = ramps(size)

    assert np.array_equal(resize_image(image, size), image)
    assert np.array_equal(resize_mask(mask, size), mask)


def test_an_image_is_interpolated_between_the_centres_of_its_pixels():
    image = np.array([0, 100], np.uint8).repeat(3).reshape(1, 2, 3)

    assert resize_image(image, (1, 4))[0, :, 0].tolist() == [0, 25, 75, 100]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_ids_stay_exact_and_no_new_ones_appear(dtype):
    ids = np.array([0, 1, 3, 254, np.iinfo(dtype).max], dtype)
    mask = np.random.default_rng(0).choice(ids, (40, 30))

    small, large = resize_mask(mask, (7, 9)), resize_mask(mask, (101, 97))

    assert small.dtype == large.dtype == dtype
    assert set(np.unique(small)) <= set(ids)
    assert np.array_equal(np.unique(large), ids)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("new", [(1, 1), (1, 5000), (5000, 1), (3, 2)])
def test_the_least_and_the_longest_sizes_work(size, new):
    image, mask = np.full((*size, 3), 7, np.uint8), np.full(size, 7, np.uint8)

    assert np.array_equal(resize_image(image, new), np.full((*new, 3), 7))
    assert np.array_equal(resize_mask(mask, new), np.full(new, 7))


def test_arrays_that_are_views_or_read_only_are_taken():
    image, mask = ramps((9, 7))
    image.flags.writeable = mask.flags.writeable = False

    assert np.array_equal(resize_image(image[:, ::-1], (5, 6)), resize_image(image[:, ::-1].copy(), (5, 6)))
    assert np.array_equal(resize_mask(mask[::-1], (5, 6)), resize_mask(mask[::-1].copy(), (5, 6)))


def test_the_bits_do_not_depend_on_the_number_of_threads(with_threads: Callable[[int], None]):
    image = np.random.default_rng(0).integers(0, 256, (511, 640, 3), np.uint8)
    results = []
    for threads in (1, 2, 4):
        with_threads(threads)
        results.append((resize_image(image, (700, 913)), resize_mask(image[..., 0].copy(), (700, 913))))

    for image_, mask_ in results[1:]:
        assert np.array_equal(image_, results[0][0])
        assert np.array_equal(mask_, results[0][1])


@pytest.fixture
def with_threads():
    """Set the number of OpenCV's threads, for the test."""
    before = cv2.getNumThreads()
    yield cv2.setNumThreads
    cv2.setNumThreads(before)
