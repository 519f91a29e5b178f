import itertools
from dataclasses import astuple, replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from advseg.trainers.data.draws import Draws
from advseg.trainers.data.jitter import LUMA, ColourJitter, jitter_colours
from advseg.trainers.data.strong import (
    AREAS,
    KEYS,
    StrongJitterSettings,
    StrongSettings,
    StrongView,
    draw_strong,
    show_strong,
)

SIZE = (19, 23)
OFF = StrongSettings(
    jitter=StrongJitterSettings(probability=0), grey_probability=0, blur_probability=0, cutmix_probability=0
)
AS_IS = StrongView(
    brightness=1, contrast=1, saturation=1, hue=0, grey=0, sigma=0, top=0, left=0, bottom=0, right=0, channels=-1
)
NUMBERS = len(astuple(AS_IS))


def draws(step: int = 0) -> Draws:
    return Draws([3, 4], [0, 1, 0, step])


def images(count: int = 1) -> Tensor:
    """RGB in 0...255, smooth enough that no blur leaves black."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, *SIZE)).astype(np.float64))


def shown(view: StrongView, of: Tensor | None = None) -> Tensor:
    """One view of each image, all valid."""
    of = images() if of is None else of
    return show_strong(of, torch.ones(len(of), *SIZE, dtype=torch.bool), torch.tensor([astuple(view)] * len(of)))


def test_a_view_that_changes_nothing_is_the_image():
    torch.testing.assert_close(shown(AS_IS), images(), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "colours", [{"brightness": 1.4}, {"brightness": 0.6}, {"contrast": 1.5}, {"contrast": 0.5}, {"saturation": 1.5}]
)
def test_colours_are_those_of_the_weak_views_jitter(colours):
    assert_jittered(colours, within=0.501)


@pytest.mark.parametrize("hue", [0.25, -0.25, 0.1, 0.5])
def test_the_hue_turns_as_opencv_turns_it(hue):
    assert_jittered({"hue": hue}, within=0.51)
    assert_jittered({"hue": hue, "brightness": 0.9, "contrast": 1.2, "saturation": 0.7}, within=0.51)


def assert_jittered(colours: dict[str, float], within: float) -> None:
    """Those are rounded to whole numbers."""
    pixels = images()[0].movedim(0, -1).numpy().astype(np.uint8)
    expected = jitter_colours(pixels, ColourJitter(**colours))
    found = shown(replace(AS_IS, **colours))[0].movedim(0, -1).numpy()
    assert np.abs(found - expected).max() < within


def test_the_contrast_is_around_the_mean_of_what_is_no_padding():
    padded, valid = images(), torch.ones(1, *SIZE, dtype=torch.bool)
    valid[:, 10:] = False
    view = torch.tensor([astuple(replace(AS_IS, contrast=0.5))])

    found = [show_strong(padded * valid + other * ~valid, valid, view)[:, :, :4] for other in (0.0, 200.0)]

    torch.testing.assert_close(*found)


def test_a_grey_view_has_the_lumas():
    found = shown(replace(AS_IS, grey=1))

    luma = (images() * torch.tensor(LUMA, dtype=torch.float64).view(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(found, luma.expand(1, 3, *SIZE))


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_a_blur_is_opencvs(sigma):
    found = shown(replace(AS_IS, sigma=sigma))[0].movedim(0, -1).numpy()

    pixels = images()[0].movedim(0, -1).numpy()
    expected = cv2.GaussianBlur(pixels, (13, 13), sigma, borderType=cv2.BORDER_REPLICATE)
    # The numbers of a view are of single precision.
    assert np.abs(found - expected).max() < 1e-4


def test_each_image_has_its_own_view():
    rng = np.random.default_rng(1)
    views = [draw_strong(StrongSettings(), SIZE, draws(step)) for step in range(8)]
    together, numbers = torch.from_numpy(rng.uniform(0, 255, (8, 3, *SIZE))), torch.tensor([*map(astuple, views)])

    found = show_strong(together, torch.ones(8, *SIZE, dtype=torch.bool), numbers)

    alone = [shown(view, image.unsqueeze(0)) for view, image in zip(views, together, strict=True)]
    torch.testing.assert_close(found, torch.cat(alone))


@pytest.mark.parametrize("crop", [(48, 48), (10, 300), (3, 2)])
def test_a_box_lies_within_the_crop_and_has_the_area_that_was_drawn(crop):
    always = replace(OFF, cutmix_probability=1.0)
    areas = []
    for step in range(300):
        view = draw_strong(always, crop, draws(step))
        assert 0 <= view.top <= view.bottom <= crop[0]
        assert 0 <= view.left <= view.right <= crop[1]
        areas.append((view.bottom - view.top) * (view.right - view.left) / (crop[0] * crop[1]))
    assert max(areas) <= AREAS[1]
    if crop == (48, 48):
        assert min(areas) < 0.05
        assert max(areas) > 0.35
        assert np.mean(areas) == pytest.approx(np.mean(AREAS), abs=0.02)


def test_what_happens_to_a_view_happens_as_often_as_the_settings_say():
    views = [draw_strong(StrongSettings(), SIZE, draws(step)) for step in range(2000)]

    shares = {
        "jitter": np.mean([view.brightness != 1 for view in views]),
        "grey": np.mean([view.grey for view in views]),
        "blur": np.mean([view.sigma > 0 for view in views]),
        "cutmix": np.mean([view.bottom > 0 for view in views]),
        "dropped": np.mean([view.channels >= 0 for view in views]),
    }

    published = {"jitter": 0.8, "grey": 0.2, "blur": 0.5, "cutmix": 0.5, "dropped": 0.5}
    assert shares == {name: pytest.approx(share, abs=0.04) for name, share in published.items()}
    assert {view.channels for view in views} <= {-1, *range(KEYS)}
    for values, low, high in (
        ([view.brightness for view in views], 0.5, 1.5),
        ([view.hue for view in views], -0.25, 0.25),
        ([view.sigma for view in views], 0, 2),
    ):
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(values) <= high


def test_what_is_off_changes_nothing_and_draws_nothing():
    rng, other = draws(), draws()

    view = draw_strong(OFF, SIZE, rng)

    assert replace(view, channels=-1) == AS_IS
    assert view.channels == (other.integers(KEYS) if other.random() < 0.5 else -1)
    assert rng.random() == other.random()


def test_all_of_a_view_is_exact_in_single_precision_that_has_to_be():
    for step, crop in itertools.product(range(50), [(1024, 2048)]):
        view = draw_strong(StrongSettings(cutmix_probability=1.0), crop, draws(step))
        numbers = torch.tensor(astuple(view), dtype=torch.float32).tolist()
        assert numbers[6:] == [*astuple(view)[6:]]
    assert NUMBERS == 11
