"""A first training ends soon, whatever its images and its machine are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.jobs.first_training import Length, length_for, scale_for
from advseg.trainers.pace import Pace

MIXED = [(1200, 1600)] * 3 + [(1600, 1200)] * 2
"""Heights and widths of photographs, some on end."""


def length_of(pace: Pace, **images: int) -> Length:
    return length_for(pace, **{"labelled": 24, "unlabelled": 120, "validation": 6, **images})


class TestScale:
    @pytest.mark.parametrize(
        ("sizes", "longer", "crop"),
        [
            ([(5, 40)] * 2, None, (16, 40)),
            ([(100, 47)] * 2, None, (96, 40)),
            ([(256, 256)], None, (128, 128)),
            ([(300, 1000)] * 2, 256, (72, 128)),
            (MIXED, 256, (128, 128)),
            ([(40, 60), (60, 40), (4000, 3000)], 256, (128, 128)),
            ([(40, 80), (90, 40), (100, 48)], None, (40, 40)),
            ([(3000, 20)] * 2, 256, (128, 16)),
        ],
    )
    def test_suits_all_images(self, sizes: list[tuple[int, int]], longer: int | None, crop: tuple[int, int]) -> None:
        scale = scale_for(sizes, on_gpu=False)

        assert (scale.longer, scale.crop) == (longer, crop)

    def test_is_larger_on_a_gpu(self) -> None:
        here, there = scale_for(MIXED, on_gpu=False), scale_for(MIXED, on_gpu=True)

        assert there.width > here.width
        assert (there.longer, there.crop) == (640, (320, 320))


class TestLength:
    def test_is_ten_evaluations_in_eight_minutes(self) -> None:
        length = length_of(Pace(step=0.5, reading=0.1, judging=0.5, drawing=0.5))

        # 480 s, less 10 evaluations of 6 images with their pictures, and 144 images read: 430.6 s.
        assert (length.steps, length.evaluate_every, length.judges) == (800, 80, None)
        assert length.seconds == pytest.approx(800 * 0.5 + 144 * 0.1 + 10 * (6 * 0.5 + 0.5))
        assert length.first == pytest.approx(80 * 0.5 + 144 * 0.1 + 6 * 0.5 + 0.5)

    def test_is_no_longer_than_a_first_look(self) -> None:
        assert length_of(Pace(step=0.001, reading=0.001, judging=0.001, drawing=0.001)).steps == 4000

    def test_counts_images_that_are_read_for_the_first_time(self) -> None:
        pace = Pace(step=0.2, reading=0.2, judging=0.2, drawing=0.5)

        few, many = (length_of(pace, unlabelled=count) for count in (120, 20_000))

        # Of so many none comes twice.
        assert many.seconds == pytest.approx(many.steps * (0.2 + 16 * 0.2) + 10 * (6 * 0.2 + 0.5))
        assert many.steps < few.steps

    def test_judges_by_some_of_many_images(self) -> None:
        length = length_of(Pace(step=0.2, reading=0.01, judging=0.1, drawing=0.5), validation=500)

        assert length.judges == 120

    def test_evaluates_less_often_where_that_takes_long(self) -> None:
        length = length_of(Pace(step=0.2, reading=0.5, judging=3.0, drawing=0.5), validation=50)

        assert length.judges == 10
        assert length.steps // length.evaluate_every == 4

    @settings(deadline=None)
    @given(
        st.builds(
            Pace,
            step=st.floats(0.001, 0.5),
            reading=st.floats(1e-4, 0.2),
            judging=st.floats(0.001, 1),
            drawing=st.floats(0, 3),
        ),
        st.integers(1, 10_000),
        st.integers(0, 10_000),
        st.integers(1, 1000),
    )
    def test_is_under_ten_minutes_and_its_first_figure_comes_within_two(
        self, pace: Pace, labelled: int, unlabelled: int, validation: int
    ) -> None:
        length = length_for(pace, labelled=labelled, unlabelled=unlabelled, validation=validation)

        assert length.seconds <= 600
        assert length.first <= 120
        assert length.steps % length.evaluate_every == 0
        assert (length.judges or validation) <= validation
