"""Colours that do nothing but run between others, as the void contours of PASCAL VOC do, and are hardly a class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_WIDTH = 0.02
"""Of the longer side of a mask: how wide a contour may be."""
_LEAST_WIDTH = 7
"""In pixels; odd."""
_LEAST_SIDE = 140
"""Of masks that tell; in smaller ones the least width is over a twentieth of it, and streets would be contours."""
_BETWEEN = 0.5
"""Of a contour's pixels, those that have two different other values within half its greatest width."""
_BORDERS = 0.9
"""Of all borders, those that are a contour's own."""
_LEAST_MASKS = 5
MOST_VALUES = 254
"""Of a mask, beside 0 and 255, which stand for none."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a value runs through a mask."""

    pixels: int
    borders: int
    """Pairs of neighbouring pixels of which one alone has the value."""
    between: int
    """Pixels that have two different other values near by; not counted in small masks, nor where it has less than half
    of all borders."""


@dataclass(frozen=True, kw_only=True)
class MaskCourses:
    """How each value of a mask runs through it."""

    of: Mapping[int, Course]
    borders: int
    """Pairs of neighbouring pixels of different values."""


NO_COURSES = MaskCourses(of={}, borders=0)
"""Of a mask whose values are too many."""


def courses(pixels: np.ndarray, values: Sequence[int]) -> MaskCourses:
    """How values run through a mask [H, W] that holds these, rising and at most `MOST_VALUES`."""
    # From 1 on, so that 0 and 255 are none of them.
    places = (np.searchsorted(values, pixels) + 1).astype(np.uint8)
    counts = np.bincount(places.ravel(), minlength=len(values) + 1)
    total, borders = _borders(places, len(values))
    tells = max(places.shape) >= _LEAST_SIDE
    return MaskCourses(
        of={
            value: Course(
                pixels=int(counts[place]),
                borders=int(borders[place]),
                between=_between(places, place) if tells and 2 * borders[place] >= total else 0,
            )
            for place, value in enumerate(values, 1)
        },
        borders=total,
    )


def _borders(places: np.ndarray, count: int) -> tuple[int, np.ndarray]:
    """All pairs of different neighbours, and those of each place."""
    total, of_place = 0, np.zeros(count + 1, np.int64)
    for one, other in ((places[:, 1:], places[:, :-1]), (places[1:], places[:-1])):
        differ = one != other
        total += int(differ.sum())
        for side in (one, other):
            of_place += np.bincount(side[differ], minlength=count + 1)
    return total, of_place


def _between(places: np.ndarray, place: int) -> int:
    width = max(_LEAST_WIDTH, round(_WIDTH * max(places.shape)) | 1)
    near = np.ones((width, width), np.uint8)
    is_it = places == place
    highest = cv2.dilate(np.where(is_it, np.uint8(0), places), near)
    lowest = cv2.erode(np.where(is_it, np.uint8(255), places), near)
    return int(np.count_nonzero(is_it & (lowest < highest)))


def contour_among(masks: Sequence[MaskCourses]) -> int | None:
    """The value that is hardly a class, if there is one.

    Half of its pixels have two different other values near by, nine in ten of all borders are its own, and it is on
    five masks at least. So poles before a wall and lines on a road stay classes, of which both sides are alike, kerbs,
    as others touch without them, and what lies around things, but wide.
    """
    borders = sum(mask.borders for mask in masks)
    for value in sorted({value for mask in masks for value in mask.of}):
        runs = [mask.of[value] for mask in masks if value in mask.of]
        if (
            len(runs) >= _LEAST_MASKS
            and sum(run.borders for run in runs) >= _BORDERS * borders
            and sum(run.between for run in runs) >= _BETWEEN * sum(run.pixels for run in runs)
        ):
            return value
    return None
