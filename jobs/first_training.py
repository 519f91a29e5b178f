"""How large a first training is: its first figure and its end come soon, on the machine that it was measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

from ..models.resize import LongerSide, Size, size_of
from ..trainers.pace import Pace

BATCH = 8
_WHOLE_S, _FIRST_S, _JUDGING_S = 480.0, 90.0, 120.0
"""What is aimed at for the whole training, for its first figure and for all its evaluations: less than 10 and 2
minutes, as a machine is busier at times."""
_EVALUATIONS = range(4, 10 + 1)
_JUDGES = 10
"""Validation images below which none are left out of an evaluation."""
_EVERY = range(10, 400 + 1)
"""Steps from one evaluation to the next."""
_LEAST_CROP = 16


@dataclass(frozen=True, kw_only=True)
class Scale:
    """By what network images are read, and at what size."""

    width: int
    """Of the network `compact`."""
    longer: int | None
    """What all images' longer sides are brought to in pixels; None where all are small."""
    crop: Size


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a training goes on, and by how many validation images it is judged on its way."""

    steps: int
    evaluate_every: int
    judges: int | None
    """None: by all."""
    seconds: float
    """What it takes, by its pace."""
    first: float
    """Seconds to its first figure."""


PROVISIONAL = Length(steps=400, evaluate_every=40, judges=None, seconds=0, first=0)
"""Of a training whose pace is not known yet."""


def scale_for(sizes: Sequence[Size], *, on_gpu: bool) -> Scale:
    """The scale for images of these heights and widths."""
    width, longest, largest_crop = (56, 640, 320) if on_gpu else (16, 256, 128)
    longer = longest if max(map(max, sizes)) > longest else None
    read = [size_of(LongerSide(longer=longer) if longer else None, size) for size in sizes]
    return Scale(width=width, longer=longer, crop=_crop(read, largest_crop))


def _crop(sizes: Sequence[Size], largest: int) -> Size:
    """Multiples of 8 that lie within half of the images at least, if these are not smaller than any crop."""
    height, width = (median_low(size[axis] for size in sizes) for axis in (0, 1))
    if 2 * sum(size[0] >= height and size[1] >= width for size in sizes) < len(sizes):
        # Some lie and some are on end.
        height = width = median_low(map(min, sizes))
    return _crop_side(height, largest), _crop_side(width, largest)


def _crop_side(side: int, largest: int) -> int:
    return max(_LEAST_CROP, min(side // 8 * 8, largest))


def length_for(pace: Pace, *, labelled: int, unlabelled: int, validation: int) -> Length:
    """The length of a training of so many images, judged by at most so many, that has this pace."""
    judges = min(validation, max(_JUDGES, int(_JUDGING_S / _EVALUATIONS[-1] / pace.judging)))
    evaluation = judges * pace.judging + pace.drawing
    evaluations = max(_EVALUATIONS[0], min(int(_JUDGING_S / evaluation), _EVALUATIONS[-1]))
    images, drawn = labelled + unlabelled, BATCH * (2 if unlabelled else 1)

    def taken(steps: int) -> float:
        """Seconds of so many steps from the first on, evaluations apart."""
        return steps * pace.step + min(images, drawn * steps) * pace.reading

    left = _WHOLE_S - evaluations * evaluation
    every = _EVERY[-1]
    while every > _EVERY[0] and (taken(evaluations * every) > left or taken(every) + evaluation > _FIRST_S):
        every -= 10
    steps = evaluations * every
    return Length(
        steps=steps,
        evaluate_every=every,
        judges=judges if judges < validation else None,
        seconds=taken(steps) + evaluations * evaluation,
        first=taken(every) + evaluation,
    )
