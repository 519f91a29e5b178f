"""A mask over its image, with a legend."""

import numpy as np

from advseg.trainers.pictures.overlay import draw_overlay

PALETTE = [(0, 0, 0), (0, 200, 0), (0, 0, 200)]
IMAGE = np.full((40, 600, 3), 100, np.uint8)


def colours_below(picture, height: int) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(picture)[height:].reshape(-1, 3).tolist()))


def test_an_image_has_its_masks_colours_half_and_half() -> None:
    mask = np.zeros((40, 600), np.uint8)
    mask[:, 300:] = 1
    drawn = np.asarray(draw_overlay(IMAGE, mask, ["sky", "sea", "land"], PALETTE))
    assert drawn[0, 0].tolist() == [50, 50, 50]
    assert drawn[39, 599].tolist() == [50, 150, 50]


def test_the_legend_names_the_classes_that_are_there() -> None:
    mask = np.full((40, 600), 2, np.uint8)
    legend = colours_below(draw_overlay(IMAGE, mask, ["sky", "sea", "land"], PALETTE), 40)
    assert PALETTE[2] in legend
    assert PALETTE[1] not in legend


def test_many_and_long_names_have_room_below_an_image_however_small() -> None:
    classes = [f"class {id} " + "x" * 100 for id in range(60)]
    palette = [(id, 200, 0) for id in range(60)]
    mask = np.arange(64, dtype=np.uint8).reshape(8, 8).clip(max=59)
    picture = draw_overlay(np.zeros((8, 8, 3), np.uint8), mask, classes, palette)
    assert set(palette) <= colours_below(picture, 8)
