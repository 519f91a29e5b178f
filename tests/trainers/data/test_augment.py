import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.trainers.data.augment import AugmentationSettings, augment

IGNORE = 255

sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))
seeds = st.integers(0, 2**32 - 1)


def scene_of(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red is its mask and whose green and blue are the place of the pixel, from 1."""
    rows, columns = np.mgrid[1 : size[0] + 1, 1 : size[1] + 1].astype(np.uint8)
    mask = (7 * rows + 3 * columns) % 11
    return np.stack([mask, rows, columns], -1), mask


def augmented(size, crop, seed, *, mirror=False, rotate=False):
    chosen = AugmentationSettings(crop=crop, mirror=mirror, rotate=rotate)
    return augment(*scene_of(size), chosen, IGNORE, np.random.default_rng(seed))


@settings(deadline=None)
@given(sizes, sizes, seeds)
def test_a_crop_is_a_window_of_the_scene_padded_at_its_lower_and_right_edge(size, crop, seed):
    image, mask, valid = augmented(size, crop, seed)

    assert image.shape == (*crop, 3)
    assert mask.shape == valid.shape == crop
    height, width = min(size[0], crop[0]), min(size[1], crop[1])
    whole_image, whole_mask = scene_of(size)
    top, left = image[0, 0, 1] - 1, image[0, 0, 2] - 1
    window = np.s_[top : top + height, left : left + width]
    assert np.array_equal(image[:height, :width], whole_image[window])
    assert np.array_equal(mask[:height, :width], whole_mask[window])
    assert valid[:height, :width].all()
    assert valid.sum() == height * width


@settings(deadline=None)
@given(sizes, st.integers(1, 20), seeds, st.booleans(), st.booleans())
def test_image_mask_and_validity_stay_aligned_and_padding_counts_nowhere(size, side, seed, mirror, rotate):
    image, mask, valid = augmented(size, (side, side), seed, mirror=mirror, rotate=rotate)

    assert np.array_equal(image[valid][:, 0], mask[valid])
    assert (image[~valid] == 0).all()
    assert (mask[~valid] == IGNORE).all()
    places = {(row, column) for _, row, column in image[valid].tolist()}
    assert len(places) == valid.sum() == min(side, size[0]) * min(side, size[1])


def seen(name: str, **chosen) -> set[object]:
    """What forty draws do to a square scene: where the crop lies, or where the first corner goes."""
    found: set[object] = set()
    for seed in range(40):
        side = 4 if name == "corner" else 3
        image, _, _ = augmented((4, 4), (side, side), seed, **chosen)
        found.add(tuple(image[0, 0, 1:].tolist()))
    return found


def test_every_window_is_drawn():
    assert seen("window") == {(1, 1), (1, 2), (2, 1), (2, 2)}


@pytest.mark.parametrize(
    ("chosen", "corners"),
    [
        ({}, {(1, 1)}),
        ({"mirror": True}, {(1, 1), (1, 4)}),
        ({"rotate": True}, {(1, 1), (1, 4), (4, 1), (4, 4)}),
    ],
)
def test_only_what_is_asked_for_is_drawn(chosen, corners):
    assert seen("corner", **chosen) == corners


def test_mirror_swaps_left_and_right_and_nothing_else():
    mirrored = [augmented((3, 5), (3, 5), seed, mirror=True)[0] for seed in range(20)]

    whole, _ = scene_of((3, 5))
    assert all(np.array_equal(image, whole) or np.array_equal(image, whole[:, ::-1]) for image in mirrored)
    assert 3 < sum(np.array_equal(image, whole) for image in mirrored) < 17


def test_equal_generators_draw_the_same():
    for one, other in zip(*(augmented((9, 9), (5, 5), 3, mirror=True, rotate=True) for _ in "ab"), strict=True):
        assert np.array_equal(one, other)


def test_turning_asks_for_a_square():
    with pytest.raises(ValueError, match="rotate needs a square crop, but crop is 3 x 4"):
        AugmentationSettings(crop=(3, 4), rotate=True)


def test_a_crop_has_a_pixel_at_least():
    with pytest.raises(ValueError, match="crop must be at least 1, but is 0"):
        AugmentationSettings(crop=(16, 0))
