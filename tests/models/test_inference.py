"""Whole images and windows, at one scale and averaged over several."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from advseg.models import inference
from advseg.models.inference import EvaluationSettings, predict_averaged, predict_probabilities, window_starts
from advseg.models.resize import LongerSide
from advseg.trainers.data.resize import resize_image

CLASSES = 3
sides = st.integers(8, 30)


class Pointwise:
    """Logits of a pixel are a function of that pixel alone."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, images):
        self.seen.append(tuple(images.shape))
        return torch.stack([images[:, 0], images[:, 1] * images[:, 2], images[:, 2] - images[:, 0]], 1)


class Placed(Pointwise):
    """Logits also tell a pixel's place in what the network sees, top from bottom and left from right."""

    def __call__(self, images):
        logits = super().__call__(images)
        height, width = images.shape[-2:]
        rows, columns = torch.arange(height).double()[:, None], torch.arange(width).double()
        return logits + torch.stack([0 * rows * columns, rows / height + 0 * columns, columns / width + 0 * rows])


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def assert_close(one: torch.Tensor, two: torch.Tensor) -> None:
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


class TestWindows:
    @given(st.integers(1, 400), st.integers(1, 400), st.floats(0, 1, exclude_min=True))
    def test_cover_every_pixel_without_leaving_the_image_and_at_most_a_stride_apart(self, length, window, stride):
        window = min(window, length)

        starts = window_starts(length, window, stride)

        covered = {pixel for start in starts for pixel in range(start, start + window)}
        assert covered == set(range(length))
        assert starts[-1] == length - window
        steps = np.diff(starts)
        assert ((steps > 0) & (steps <= max(1, round(stride * window)))).all()

    def test_of_the_published_protocol_on_cityscapes(self):
        assert window_starts(1024, 801, 2 / 3) == [0, 223]
        assert window_starts(2048, 801, 2 / 3) == [0, 534, 1068, 1247]

    @examples(deadline=None)
    @given(sides, sides, sides, sides, st.floats(0.05, 1), st.integers(1, 3))
    def test_make_no_difference_to_a_network_that_looks_at_single_pixels(self, h, w, wh, ww, stride, count):
        pixels = noise(count, 3, h, w)
        sliding = EvaluationSettings(mode="sliding", window=(wh, ww), stride=stride)

        found = predict_probabilities(Pointwise(), pixels, sliding)

        assert found.shape == (count, CLASSES, h, w)
        assert_close(found, Pointwise()(pixels).softmax(1))

    @pytest.mark.parametrize("together", [1, 3 * 80, 2**20], ids=["one by one", "few", "all at once"])
    def test_have_their_probabilities_averaged_where_they_overlap(self, monkeypatch, together):
        monkeypatch.setattr(inference, "PIXELS_AT_ONCE", together)
        pixels = noise(2, 3, 13, 21)
        total, covered = torch.zeros(2, CLASSES, 13, 21, dtype=torch.float64), torch.zeros(13, 21)
        for top in (0, 4, 5):
            for left in (0, 5, 10, 11):
                view = pixels[:, :, top : top + 8, left : left + 10]
                total[:, :, top : top + 8, left : left + 10] += Placed()(view).softmax(1)
                covered[top : top + 8, left : left + 10] += 1

        found = predict_probabilities(Placed(), pixels, EvaluationSettings(mode="sliding", window=(8, 10), stride=0.5))

        assert_close(found, total / covered)
        assert_close(found.sum(1), torch.ones(2, 13, 21, dtype=torch.float64))

    def test_span_an_image_that_is_smaller_one_way(self):
        network = Pointwise()

        predict_probabilities(network, noise(1, 3, 10, 30), EvaluationSettings(mode="sliding", window=(16, 16)))

        assert {shape[2:] for shape in network.seen} == {(10, 16)}

    def test_are_one_where_the_image_is_no_larger(self):
        network, pixels = Placed(), noise(1, 3, 10, 16)

        found = predict_probabilities(network, pixels, EvaluationSettings(mode="sliding", window=(16, 16)))

        assert network.seen == [(1, 3, 10, 16)]
        assert_close(found, Placed()(pixels).softmax(1))


class TestAtOnce:
    WHOLE, SLIDING = EvaluationSettings(), EvaluationSettings(mode="sliding", window=(8, 8))

    @pytest.mark.parametrize("settings", [WHOLE, SLIDING], ids=["whole", "sliding"])
    def test_no_more_pixels_than_allowed_go_through_the_network(self, monkeypatch, settings):
        pixels = noise(5, 3, 16, 16)
        expected = predict_probabilities(Placed(), pixels, settings)
        monkeypatch.setattr(inference, "PIXELS_AT_ONCE", 2 * 16 * 16)
        network = Placed()

        found = predict_probabilities(network, pixels, settings)

        assert max(n * h * w for n, _, h, w in network.seen) <= 2 * 16 * 16
        assert_close(found, expected)

    def test_a_larger_image_goes_alone(self, monkeypatch):
        monkeypatch.setattr(inference, "PIXELS_AT_ONCE", 100)
        network = Pointwise()

        predict_probabilities(network, noise(2, 3, 16, 16), self.WHOLE)

        assert network.seen == [(1, 3, 16, 16)] * 2


class TestResizing:
    def test_the_network_reads_one_size_and_probabilities_have_the_images_own(self):
        network = Pointwise()

        found = predict_probabilities(network, noise(2, 3, 20, 31), EvaluationSettings(), resize=(10, 16))

        assert network.seen == [(2, 3, 10, 16)]
        assert found.shape == (2, CLASSES, 20, 31)
        assert_close(found.sum(1), torch.ones(2, 20, 31, dtype=torch.float64))

    def test_windows_are_of_the_size_that_the_network_reads(self):
        network = Pointwise()

        predict_probabilities(
            network, noise(1, 3, 40, 40), EvaluationSettings(mode="sliding", window=(8, 8)), resize=(16, 16)
        )

        assert {shape[2:] for shape in network.seen} == {(8, 8)}
        assert sum(shape[0] for shape in network.seen) == len(window_starts(16, 8, 2 / 3)) ** 2

    def test_the_network_reads_what_it_was_trained_on(self):
        image = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
        read = []

        def network(images):
            read.append(images)
            return images

        predict_probabilities(
            network, torch.from_numpy(image).permute(2, 0, 1)[None].double(), EvaluationSettings(), resize=(10, 22)
        )

        trained = torch.from_numpy(resize_image(image, (10, 22))).permute(2, 0, 1)[None]
        assert (read[0] - trained).abs().max() < 1.5

    def test_nothing_is_shifted(self):
        pixels = noise(1, 3, 12, 18)

        there = predict_probabilities(Pointwise(), pixels, EvaluationSettings(), resize=(9, 11))
        turned = predict_probabilities(Pointwise(), pixels.flip(-1, -2), EvaluationSettings(), resize=(9, 11))

        assert_close(turned.flip(-1, -2), there)

    def test_by_a_longer_side_each_image_keeps_its_proportions(self):
        network, resize = Pointwise(), LongerSide(longer=16)

        for size in ((24, 12), (12, 24), (6, 8)):
            assert predict_averaged(network, noise(1, 3, *size), EvaluationSettings(), resize=resize).shape[2:] == size

        assert network.seen == [(1, 3, 16, 8), (1, 3, 8, 16), (1, 3, 12, 16)]


class TestAveraging:
    @pytest.mark.parametrize(
        ("resize", "size"),
        [(None, (16, 24)), ((12, 18), (12, 18)), (LongerSide(longer=36), (24, 36))],
        ids=["own size", "resized", "longer side"],
    )
    def test_is_the_mean_over_scales_and_directions(self, resize, size):
        settings = EvaluationSettings(scales=(0.75, 1.0, 1.5), flip=True)
        pixels = noise(2, 3, 16, 24)
        height, width = size
        views = []
        for factor in (0.75, 1, 1.5):
            size = (round(factor * height), round(factor * width))
            views.append(predict_probabilities(Placed(), pixels, EvaluationSettings(), resize=size))
            mirrored = predict_probabilities(Placed(), pixels.flip(-1), EvaluationSettings(), resize=size)
            views.append(mirrored.flip(-1))

        found = predict_averaged(Placed(), pixels, settings, resize=resize)

        assert_close(found, torch.stack(views).mean(0))

    def test_over_mirrored_images_alone_keeps_their_size(self):
        network = Pointwise()

        predict_averaged(network, noise(1, 3, 16, 24), EvaluationSettings(flip=True))

        assert network.seen == [(1, 3, 16, 24)] * 2

    def test_takes_no_image_below_what_a_network_can_read(self):
        network = Pointwise()

        predict_averaged(network, noise(1, 3, 16, 40), EvaluationSettings(scales=(0.25,)))

        assert network.seen == [(1, 3, 8, 10)]

    def test_is_never_part_of_a_single_prediction(self):
        pixels = noise(1, 3, 16, 24)
        settings = EvaluationSettings(scales=(0.5, 2.0), flip=True)

        assert_close(predict_probabilities(Placed(), pixels, settings), Placed()(pixels).softmax(1))
        assert settings.averages
        assert not EvaluationSettings().averages


@pytest.mark.parametrize(
    "values",
    [{"mode": "crops"}, {"window": (0, 801)}, {"stride": 0.0}, {"stride": 1.5}, {"scales": (1.0, 0.0)}],
    ids=str,
)
def test_settings_out_of_range_are_refused(values):
    (name,) = values
    with pytest.raises(ValueError, match=f"^{name} must be"):
        EvaluationSettings(**values)
