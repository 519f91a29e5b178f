import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.trainers.data.augment import AugmentationSettings, draw_view, show_image, show_mask, show_validity
from advseg.trainers.data.jitter import JitterSettings

IGNORE = 255

sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))
seeds = st.integers(0, 2**32 - 1)


def scene_of(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red is its mask and whose green and blue are the place of the pixel, from 1."""
    rows, columns = np.mgrid[1 : size[0] + 1, 1 : size[1] + 1].astype(np.uint8)
    mask = (7 * rows + 3 * columns) % 11
    return np.stack([mask, rows, columns], -1), mask


def augment(image, mask, chosen, rng):
    """A crop of an image, its mask and its validity, as a stream puts them together."""
    view = draw_view(mask.shape, chosen, rng)
    crop = np.zeros((*chosen.crop, 3), np.uint8), np.full(chosen.crop, IGNORE, np.int32), np.zeros(chosen.crop, bool)
    show_image(image, view, crop[0])
    show_mask(mask, view, crop[1])
    show_validity(view, crop[2])
    return crop


def augmented(size, crop, seed, *, mirror=False, **chosen):
    chosen = AugmentationSettings(crop=crop, mirror=mirror, **chosen)
    return augment(*scene_of(size), chosen, np.random.default_rng(seed))


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


def test_what_is_off_draws_nothing():
    chosen, rng, digest = AugmentationSettings(crop=(9, 9), rotate=True), np.random.default_rng(3), hashlib.sha256()
    for size in ((20, 13), (5, 17), (9, 9)):
        for part in augment(*scene_of(size), chosen, rng):
            digest.update(np.ascontiguousarray(part.astype(np.uint8) if part.dtype == np.int32 else part))

    # From before there were scale and jitter: a run of then is the same run now.
    assert digest.hexdigest().startswith("c2e58c0a730f3c7c")
    assert rng.random() == 0.479051298140834


@settings(deadline=None)
@given(sizes, sizes, seeds, st.floats(0.01, 10), st.booleans())
def test_a_scaled_scene_is_cropped_and_padded_as_one_of_its_new_size(size, crop, seed, factor, mirror):
    image, mask, valid = augmented(size, crop, seed, scale=(factor, factor), mirror=mirror)

    assert image.shape == (*crop, 3)
    assert mask.shape == valid.shape == crop
    new = [max(1, round(factor * side)) for side in size]
    assert valid.sum() == min(crop[0], new[0]) * min(crop[1], new[1])
    assert (image[~valid] == 0).all()
    assert (mask[~valid] == IGNORE).all()


@settings(deadline=None)
@given(sizes, sizes, seeds, st.floats(0.1, 5), st.booleans())
def test_a_mask_stays_aligned_with_its_image_under_scaling(size, crop, seed, factor, mirror):
    rows, columns = np.mgrid[: size[0], : size[1]]
    image, mask = np.stack([rows, columns, rows], -1).astype(np.uint8), (100 * rows + columns).astype(np.int32)
    chosen = AugmentationSettings(crop=crop, mirror=mirror, scale=(factor, factor))

    image, mask, valid = augment(image, mask, chosen, np.random.default_rng(seed))

    # Half a pixel to the nearest centre, half a unit of rounding.
    rows, columns = np.divmod(mask[valid], 100)
    assert abs(image[valid][:, 0].astype(int) - rows).max() <= 1
    assert abs(image[valid][:, 1].astype(int) - columns).max() <= 1


def test_factors_are_drawn_from_the_whole_range():
    heights = [augmented((20, 20), (40, 40), seed, scale=(0.5, 1.5))[2].any(1).sum() for seed in range(200)]

    assert set(range(11, 30)) <= set(heights) <= set(range(10, 31))


@settings(deadline=None)
@given(sizes, sizes, seeds)
def test_jitter_changes_colours_and_neither_place_nor_mask_nor_padding(size, crop, seed):
    strong = JitterSettings(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5)
    plain = augmented(size, crop, seed, mirror=True)

    image, mask, valid = augmented(size, crop, seed, mirror=True, jitter=strong)

    assert np.array_equal(mask, plain[1])
    assert np.array_equal(valid, plain[2])
    assert (image[~valid] == 0).all()


def test_jitter_changes_the_image_and_leaves_the_original():
    image, mask = scene_of((9, 9))
    before = image.copy()
    chosen = AugmentationSettings(crop=(9, 9), mirror=False, jitter=JitterSettings(brightness=0.5))

    changed, _, _ = augment(image, mask, chosen, np.random.default_rng(0))

    assert not np.array_equal(changed, before)
    assert np.array_equal(image, before)


def test_with_everything_on_equal_generators_draw_the_same():
    on = {"scale": (0.5, 1.5), "mirror": True, "rotate": True, "jitter": JitterSettings(contrast=0.3, hue=0.1)}

    for one, other in zip(*(augmented((9, 14), (8, 8), 3, **on) for _ in "ab"), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ((0, 1), "scale must be in (0, 10], but is 0"),
        ((1, 11), "scale must be in (0, 10], but is 11"),
        ((1.5, 0.5), "scale must be a lowest and a highest factor, but is 1.5, 0.5"),
    ],
)
def test_scale_is_a_range_of_factors(scale, message):
    with pytest.raises(ValueError) as caught:
        AugmentationSettings(crop=(3, 3), scale=scale)

    assert str(caught.value) == message


def test_turning_asks_for_a_square():
    with pytest.raises(ValueError, match="rotate needs a square crop, but crop is 3 x 4"):
        AugmentationSettings(crop=(3, 4), rotate=True)


def test_a_crop_has_a_pixel_at_least():
    with pytest.raises(ValueError, match="crop must be at least 1, but is 0"):
        AugmentationSettings(crop=(16, 0))
