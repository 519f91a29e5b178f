import numpy as np
import pytest
from PIL import Image

from advseg.trainers.pictures.class_bars import draw_class_bars
from advseg.trainers.pictures.lettering import INK

WHITE, RED, BLUE, MEAN = (255, 255, 255), (255, 0, 0), (0, 0, 255), (200, 30, 30)


def where(picture: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    """bool [H, W]"""
    return (np.asarray(picture) == colour).all(-1)


def length_of(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    """Columns of the bar of a colour, with its outline."""
    inside = where(picture, colour).any(0).nonzero()[0]
    return inside[-1] - inside[0] + 3 if inside.size else 0


@pytest.mark.parametrize("share", [1, 20, 50, 99])
def test_bars_are_as_long_as_the_iou_in_the_colours_of_their_classes(share):
    picture = draw_class_bars([100.0, share], ["whole", "part"], [BLUE, RED])

    # The line of the mean crosses one bar at most.
    assert length_of(picture, RED) == pytest.approx(length_of(picture, BLUE) * share / 100, abs=1)


def test_a_white_bar_is_outlined():
    white, none = (draw_class_bars([iou, 100.0], ["a", "b"], [WHITE, BLUE]) for iou in (50.0, 0.0))

    top, bottom = where(white, INK).sum(1)[:-1].nonzero()[0][[0, -1]]
    rows = where(white, INK)[top:bottom].sum(1) - where(none, INK)[top:bottom].sum(1)
    assert (rows > 0.4 * length_of(white, BLUE)).sum() == 2


def test_an_absent_class_is_not_one_of_zero_percent():
    absent, zero = (draw_class_bars([0.0, iou], ["there", "gone"], [BLUE, RED]) for iou in (None, 0.0))

    assert absent.size == zero.size
    assert absent != zero


@pytest.mark.parametrize(("iou", "average"), [([100.0, 0.0, 50.0], 0.5), ([100.0, None, 50.0], 0.75)])
def test_a_line_through_all_rows_marks_the_mean_of_the_classes_that_have_an_iou(iou, average):
    picture = draw_class_bars(iou, ["a", "b", "c"], [BLUE, WHITE, RED])

    line = where(picture, MEAN)
    (column,) = line.any(0).nonzero()[0]
    assert line[:, column].sum() > 3 * 20
    blue = where(picture, BLUE).any(0).nonzero()[0]
    assert column - (blue[0] - 1) == pytest.approx(length_of(picture, BLUE) * average, abs=1)


def test_without_any_iou_there_is_still_a_picture():
    assert where(draw_class_bars([None, None], ["a", "b"], [BLUE, RED]), MEAN).any()


def test_a_picture_of_many_classes_is_taller_and_has_room_for_each():
    palette = [(k, 255 - k, 7) for k in range(200)]
    names = [f"class {k}" for k in range(200)]

    some, many = (draw_class_bars([100.0] * n, names[:n], palette[:n]) for n in (100, 200))

    assert some.height < many.height < 2 * some.height
    within = where(many, palette[0]).any(0).argmax()
    column = np.asarray(many)[:, within]
    thickness = {int((column == colour).all(-1).sum()) for colour in palette}
    assert len(thickness) == 1 and thickness.pop() >= 10


def test_a_picture_grows_with_its_names_up_to_a_bound():
    widths = [draw_class_bars([1.0, 1.0], [name, "b"], [BLUE, RED]).width for name in ("a", "a" * 80, "a" * 500)]

    assert widths[0] < widths[1] == pytest.approx(widths[2], abs=10)
