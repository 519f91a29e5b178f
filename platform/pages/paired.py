"""Differences between runs that share their seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

# 97.5 % points of Student's t distribution for 1, 2, ... degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
_T += (2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045)
MAX_PAIRS = len(_T) + 1


@dataclass(frozen=True)
class Difference:
    """A mean difference and the half-width of its 95 % confidence interval."""

    mean: float
    half_width: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return abs(self.mean) > self.half_width


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Ours minus theirs, pair by pair: two pairs or more, at most MAX_PAIRS. Student's t interval of the mean."""
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    count = len(differences)
    return Difference(mean(differences), _T[count - 2] * stdev(differences) / math.sqrt(count))
