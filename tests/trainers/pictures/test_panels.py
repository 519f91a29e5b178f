import numpy as np
import pytest

from advseg.trainers.pictures.panels import colour, compose


@pytest.mark.parametrize("ignore_index", [2, 255, 65535])
def test_ids_have_their_colours_and_ignored_pixels_are_light_grey(ignore_index):
    mask = np.array([[0, 1, ignore_index]])

    assert colour(mask, [(0, 0, 0), (9, 8, 7)], ignore_index).tolist() == [[[0, 0, 0], [9, 8, 7], [220, 220, 220]]]


def test_tiles_keep_their_proportions_whatever_those_of_other_rows():
    wide, tall = np.zeros((10, 20, 3), np.uint8), np.full((20, 10, 3), 9, np.uint8)

    pixels = np.asarray(compose(["one"], [[wide], [tall]]))[18:]

    for tile in (wide, tall):
        there = (pixels == tile[0, 0]).all(-1)
        assert there.any(1).sum() / there.any(0).sum() == tile.shape[0] / tile.shape[1]
