import colorsys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.trainers.data.jitter import JitterSettings, draw_colour_jitter, jitter_colours

KINDS = ("brightness", "contrast", "saturation", "hue")
LUMA = np.array([0.299, 0.587, 0.114])


def noise(count: int = 500, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(5).integers(low, high, (count, 3), np.uint8)


def jitter(pixels: np.ndarray, settings: JitterSettings, rng: np.random.Generator) -> np.ndarray:
    return jitter_colours(pixels[None], draw_colour_jitter(settings, rng))[0]


def jittered(pixels: np.ndarray, seed: int = 0, **reach: float) -> np.ndarray:
    return jitter(pixels, JitterSettings(**reach), np.random.default_rng(seed))


def test_off_changes_and_draws_nothing():
    rng = np.random.default_rng(0)

    assert np.array_equal(jitter(noise(), JitterSettings(), rng), noise())
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_brightness_multiplies_every_colour_by_a_factor_around_one():
    pixels = np.full((1, 3), 100, np.uint8)

    factors = [jittered(pixels, seed, brightness=0.4)[0, 0] / 100 for seed in range(300)]

    assert 0.6 <= min(factors) < 0.63
    assert 1.37 < max(factors) <= 1.4
    assert abs(np.mean(factors) - 1) < 0.06


def test_contrast_moves_colours_from_or_to_the_mean_grey_which_stays():
    pixels = noise(low=80, high=176)

    spreads = []
    for seed in range(20):
        changed = jittered(pixels, seed, contrast=0.5)
        assert abs((changed @ LUMA).mean() - (pixels @ LUMA).mean()) < 0.3
        spreads.append(changed.std() / pixels.std())

    assert min(spreads) < 0.8
    assert max(spreads) > 1.2


def test_saturation_changes_how_far_a_colour_is_from_its_grey_which_stays():
    pixels = noise(low=80, high=176)

    for seed in range(20):
        changed = jittered(pixels, seed, saturation=0.5)
        assert abs(changed @ LUMA - pixels @ LUMA).max() < 1
        assert not np.array_equal(changed, pixels)


def test_full_saturation_of_zero_is_grey():
    class Lowest(np.random.Generator):
        def uniform(self, low: float, high: float) -> float:
            return low

    grey = jitter(noise(), JitterSettings(saturation=1), Lowest(np.random.PCG64(0)))

    assert (np.ptp(grey, axis=1) == 0).all()


def test_hue_turns_the_colour_circle():
    pixels = noise(100)
    turn = np.random.default_rng(3).uniform(-0.5, 0.5)

    changed = jittered(pixels, 3, hue=0.5)

    for before, after in zip(pixels / 255, changed, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*before)
        assert abs(255 * np.array(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)) - after).max() <= 1


@pytest.mark.parametrize("kind", ["saturation", "hue"])
def test_greys_have_no_hue_to_shift_and_no_saturation_to_change(kind):
    greys = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)

    assert np.array_equal(jittered(greys, 1, **{kind: 0.5}), greys)


def test_the_order_is_brightness_contrast_saturation_hue():
    pixels, rng = noise(low=60, high=160), np.random.default_rng(7)
    by_steps = pixels
    for kind in KINDS:
        by_steps = jitter(by_steps, JitterSettings(**{kind: 0.3}), rng)

    at_once = jittered(pixels, 7, **dict.fromkeys(KINDS, 0.3))

    assert abs(at_once.astype(int) - by_steps).max() <= 3  # of rounding


@settings(deadline=None)
@given(
    st.integers(1, 40),
    st.fixed_dictionaries({kind: st.sampled_from([0.0, 0.5]) for kind in KINDS}),
    st.integers(0, 2**32 - 1),
)
def test_any_colours_and_even_a_single_pixel_stay_colours(count, reach, seed):
    pixels = np.random.default_rng(seed).choice(np.array([0, 1, 254, 255], np.uint8), (count, 3))
    before = pixels.copy()

    changed = jittered(pixels, seed, **reach)

    assert changed.shape == pixels.shape
    assert changed.dtype == np.uint8
    assert np.array_equal(pixels, before)
    assert np.array_equal(changed, jittered(pixels, seed, **reach))


def test_the_bits_do_not_depend_on_the_number_of_threads():
    pixels, before = noise(100_001), cv2.getNumThreads()
    results = []
    for threads in (1, 2, 4):
        cv2.setNumThreads(threads)
        results.append(jittered(pixels, 2, **dict.fromkeys(KINDS, 0.4)))
    cv2.setNumThreads(before)

    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize(
    ("reach", "message"),
    [
        ({"brightness": 1.1}, "brightness must be in [0, 1], but is 1.1"),
        ({"contrast": -0.1}, "contrast must be in [0, 1], but is -0.1"),
        ({"saturation": 2}, "saturation must be in [0, 1], but is 2"),
        ({"hue": 0.6}, "hue must be in [0, 0.5], but is 0.6"),
    ],
)
def test_a_reach_out_of_range_is_refused(reach, message):
    with pytest.raises(ValueError) as caught:
        JitterSettings(**reach)

    assert str(caught.value) == message
