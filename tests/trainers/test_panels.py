import numpy as np
import pytest

from advseg.trainers.panels import colour


@pytest.mark.parametrize("ignore_index", [2, 255, 65535])
def test_ids_have_their_colours_and_ignored_pixels_are_light_grey(ignore_index):
    mask = np.array([[0, 1, ignore_index]])

    assert colour(mask, [(0, 0, 0), (9, 8, 7)], ignore_index).tolist() == [[[0, 0, 0], [9, 8, 7], [220, 220, 220]]]
