"""Augmentation on a device, here the CPU, against the plain one."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.trainers.data.augment import AugmentationSettings, draw_view, show_image, show_mask, show_validity
from advseg.trainers.data.device import jitter_colours_there, show_image_there, show_mask_there, show_validity_there
from advseg.trainers.data.jitter import JitterSettings, draw_colour_jitter, jitter_colours

IGNORE = 255
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def both_ways(size, seed, chosen):
    """Image, mask and validity of one crop, plain and on the device; the originals are read-only, as packs are."""
    rng = np.random.default_rng(seed)
    image, mask = rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(0, 21, size, np.uint8)
    image.flags.writeable = mask.flags.writeable = False
    view = draw_view(size, chosen, rng)
    plain = np.zeros((*chosen.crop, 3), np.uint8), np.full(chosen.crop, IGNORE, np.int32), np.zeros(chosen.crop, bool)
    there = tuple(torch.from_numpy(part.copy()) for part in plain)
    there = there[0].permute(2, 0, 1).contiguous(), *there[1:]
    for show, show_there, pixels, place in (
        (show_image, show_image_there, image, 0),
        (show_mask, show_mask_there, mask, 1),
    ):
        show(pixels, view, plain[place])
        show_there(pixels, view, there[place])
    show_validity(view, plain[2])
    show_validity_there(view, there[2])
    return plain, (there[0].permute(1, 2, 0).numpy(), there[1].numpy(), there[2].numpy())


@settings(deadline=None, max_examples=200)
@given(sizes, st.integers(1, 40), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_what_is_not_scaled_is_the_same_to_the_bit(size, side, seed, mirror, rotate):
    chosen = AugmentationSettings(crop=(side, side), mirror=mirror, rotate=rotate)

    for plain, there in zip(*both_ways(size, seed, chosen), strict=True):
        assert np.array_equal(plain, there)


@settings(deadline=None, max_examples=200)
@given(sizes, sizes, st.integers(0, 2**32 - 1), st.floats(0.2, 4))
def test_scaling_differs_by_rounding_and_masks_not_at_all(size, crop, seed, factor):
    chosen = AugmentationSettings(crop=crop, scale=(factor, factor))

    plain, there = both_ways(size, seed, chosen)

    assert abs(plain[0].astype(int) - there[0]).max() <= 1
    assert np.array_equal(plain[1], there[1])
    assert np.array_equal(plain[2], there[2])


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1))
def test_colours_differ_by_rounding(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (9, 7, 3), np.uint8)
    drawn = draw_colour_jitter(JitterSettings(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5), rng)

    there = jitter_colours_there(torch.from_numpy(image).permute(2, 0, 1).float(), drawn).permute(1, 2, 0).numpy()

    assert abs(jitter_colours(image, drawn).astype(int) - there).max() <= 1
    assert np.array_equal(there, there.round())
