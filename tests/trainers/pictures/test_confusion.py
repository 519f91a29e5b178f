import numpy as np
import pytest

from advseg.trainers.pictures.confusion import draw_confusion

WHITE, ABSENT, GRID = (255, 255, 255), (225, 225, 225), (235, 235, 235)


def cells(picture, count: int) -> list[list[tuple[int, int, int]]]:
    """The colour within the upper left corner of each cell, found by the grid's long lines."""
    pixels = np.asarray(picture)
    grid = (pixels == GRID).all(-1)
    top, left = ((grid.sum(axis) > grid.sum(axis).max() / 2).argmax() for axis in (1, 0))
    cell = grid[top].sum() // count
    corners = pixels[top + 1 : top + count * cell : cell, left + 1 : left + count * cell : cell]
    return [[tuple(colour) for colour in row] for row in corners.tolist()]


@pytest.mark.parametrize("count", [2, 6, 21, 100])
def test_shares_of_a_row_darken_its_cells(count):
    matrix = np.diag(np.arange(1, count + 1)) * 10
    matrix[0, 1] = 10

    drawn = cells(draw_confusion(matrix, [f"class {k}" for k in range(count)]), count)

    assert drawn[0][0] == drawn[0][1] != WHITE
    assert sum(drawn[1][1]) < sum(drawn[0][0])
    assert {drawn[k][k] for k in range(1, count)} == {drawn[1][1]}
    assert {drawn[r][c] for r in range(1, count) for c in range(count) if r != c} == {WHITE}


def test_the_row_of_a_class_that_is_absent_from_the_truth_is_grey():
    drawn = cells(draw_confusion(np.array([[5, 5, 0], [0, 0, 0], [0, 0, 1]]), ["a", "b", "c"]), 3)

    assert drawn[1] == [ABSENT] * 3
    assert ABSENT not in drawn[0] + drawn[2]


def test_a_picture_grows_with_its_names_up_to_a_bound():
    sizes = [draw_confusion(np.eye(3), [name, "b", "c"]).size for name in ("a", "a" * 15, "a" * 80, "a" * 500)]

    assert sizes[0] < sizes[1] < sizes[2] == pytest.approx(sizes[3], abs=10)


def test_names_of_any_script_and_none_at_all_are_drawn():
    assert draw_confusion(np.eye(3), ["", "[bold]", "木"]).size
