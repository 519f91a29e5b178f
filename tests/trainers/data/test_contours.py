"""What only runs between others is told from thin classes."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from advseg.trainers.data.contours import contour_among, courses

CONTOUR = 99
HEIGHT, WIDTH = 120, 160
Draw = Callable[[np.random.Generator], np.ndarray]


def regions(rng: np.random.Generator) -> np.ndarray:
    """Ground and sky, and two things before them."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[: rng.integers(40, 80)] = 1
    for thing in (2, 3):
        centre = int(rng.integers(20, WIDTH - 20)), int(rng.integers(20, HEIGHT - 20))
        cv2.ellipse(mask, centre, (18, 12), float(rng.integers(180)), 0, 360, thing, -1)
    return mask


def outlined(mask: np.ndarray, width: int) -> np.ndarray:
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((width, width), np.uint8)) > 0
    return np.where(edge, CONTOUR, mask)


def contours(rng: np.random.Generator) -> np.ndarray:
    return outlined(regions(rng), 3)


def poles_and_wires(rng: np.random.Generator) -> np.ndarray:
    mask = regions(rng)
    for column in rng.integers(5, WIDTH - 5, 3):
        mask[20:100, column : column + 3] = CONTOUR
    row = int(rng.integers(5, 30))
    mask[row : row + 2] = CONTOUR
    return mask


def lines_on_a_road(rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for column in rng.integers(5, WIDTH - 5, 4):
        mask[:, column : column + 3] = CONTOUR
    return mask


def kerbs(rng: np.random.Generator) -> np.ndarray:
    """Always between road and pavement, with houses that touch the pavement."""
    mask, kerb = np.zeros((HEIGHT, WIDTH), np.uint8), int(rng.integers(60, 100))
    mask[:kerb], mask[: kerb - 30] = 1, 2
    mask[kerb : kerb + 3] = CONTOUR
    return mask


def background(rng: np.random.Generator) -> np.ndarray:
    """Of things that never touch each other."""
    mask = np.full((HEIGHT, WIDTH), CONTOUR, np.uint8)
    for thing, column in enumerate(range(15, WIDTH, 40)):
        cv2.circle(mask, (column, int(rng.integers(15, HEIGHT - 15))), 12, thing % 3, -1)
    return mask


def thick_outlines(rng: np.random.Generator) -> np.ndarray:
    return outlined(cv2.resize(regions(rng), (640, 480), interpolation=cv2.INTER_NEAREST), 31)


def small_things(rng: np.random.Generator) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:60] = 1
    for row, column in rng.integers(0, HEIGHT - 4, (30, 2)):
        mask[row : row + 4, column : column + 4] = CONTOUR
    return mask


def guess(draw: Draw, masks: int = 6) -> int | None:
    rng = np.random.default_rng(0)
    drawn = [draw(rng) for _ in range(masks)]
    return contour_among([courses(mask, np.unique(mask).tolist()) for mask in drawn])


def test_a_contour_around_everything_is_no_class() -> None:
    assert guess(contours) == CONTOUR


def test_a_contour_is_found_beside_masks_of_one_region() -> None:
    def some_are_empty(rng: np.random.Generator) -> np.ndarray:
        return contours(rng) if rng.random() < 0.7 else np.zeros((HEIGHT, WIDTH), np.uint8)

    assert guess(some_are_empty, masks=12) == CONTOUR


@pytest.mark.parametrize(
    "draw",
    [regions, poles_and_wires, lines_on_a_road, kerbs, background, thick_outlines, small_things],
    ids=lambda draw: draw.__name__,
)
def test_thin_classes_stay_classes(draw: Draw) -> None:
    assert guess(draw) is None


def test_small_masks_do_not_tell_streets_from_contours() -> None:
    def streets(rng: np.random.Generator, width: int) -> np.ndarray:
        mask, street = np.zeros((width, width), np.uint8), int(rng.integers(10, 50))
        mask[street:], mask[street : street + 4] = 1, CONTOUR
        return mask

    assert guess(lambda rng: streets(rng, 64)) is None
    assert guess(lambda rng: streets(rng, 160)) == CONTOUR


def test_a_few_masks_are_too_few_to_tell() -> None:
    assert guess(contours, masks=4) is None


def test_pixels_and_borders_are_counted() -> None:
    mask = np.zeros((20, 160), np.int32)
    mask[:, 8:11] = 7
    mask[:, 11:] = 300

    found = courses(mask, [0, 7, 300])

    assert {value: course.pixels for value, course in found.of.items()} == {0: 160, 7: 60, 300: 2980}
    assert found.borders == 40
    assert {value: course.borders for value, course in found.of.items()} == {0: 20, 7: 40, 300: 20}
    assert {value: course.between for value, course in found.of.items()} == {0: 0, 7: 60, 300: 0}
