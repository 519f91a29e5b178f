"""One-sided paired tests: is a training better than its rival by more than a margin, on the same seeds?"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, sqrt

import numpy as np
from scipy import special

MOST_PAIRS = 16
"""That the exact test takes: it looks at every subset of them."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How far a training is above its rival, in percentage points of mean IoU, by pairs of one seed."""

    mean: float
    low: float | None
    """Lower end of the interval in which the true difference lies; None where so few pairs say nothing."""
    high: float | None
    p: float
    """How probable so clear a lead was if the true one were the margin, or less."""


def sign_flip(differences: Sequence[float], *, margin: float, alpha: float) -> Estimate:
    """The exact test by all changes of sign (Fisher 1935); it assumes that each difference is as likely as its mirror.

    Its interval of confidence 1 - 2 alpha lies between means of subsets (Hartigan, JASA 1969), and is above the margin
    exactly if p is at most alpha. Takes 1 to `MOST_PAIRS` differences.
    """
    means = np.sort(_subset_means(differences))
    count = 2 ** len(differences)
    # A flipped sum is at least the one observed if the differences that were flipped sum to nothing above 0.
    p = (1 + int(np.count_nonzero(means <= margin))) / count
    # The true difference lies in each of the gaps between the means with the same probability.
    place = floor(alpha * count)
    low, high = (float(means[place - 1]), float(means[-place])) if place else (None, None)
    return Estimate(mean=float(np.mean(differences)), low=low, high=high, p=p)


def student(differences: Sequence[float], *, margin: float, alpha: float) -> Estimate:
    """Student's test, with its interval of confidence 1 - 2 alpha; it assumes that differences are normal.

    Takes two or more.
    """
    mean, count = float(np.mean(differences)), len(differences)
    error = float(np.std(differences, ddof=1)) / sqrt(count)
    if error == 0:
        # The same lead on every seed: of trainings that differ in nothing.
        return Estimate(mean=mean, low=mean, high=mean, p=float(mean <= margin))
    half = -float(special.stdtrit(count - 1, alpha)) * error
    p = float(special.stdtr(count - 1, (margin - mean) / error))
    return Estimate(mean=mean, low=mean - half, high=mean + half, p=p)


TESTS = {"sign_flip": sign_flip, "t": student}
TOLD = {"sign_flip": "the exact test by changes of sign", "t": "Student's test of pairs"}
"""What each is called in a sentence."""


def holm(p: Sequence[float]) -> list[float]:
    """The p of several tests, adjusted so that all that are at most alpha may be believed together (Holm 1979)."""
    adjusted, highest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = highest
    return adjusted


def least_p(pairs: int) -> float:
    """The smallest p that the exact test can give of so many pairs."""
    return 0.5**pairs


def may_pass(differences: Sequence[float], pairs: int, *, margin: float, alpha: float) -> bool:
    """Whether the exact test may still give a p of at most alpha, once there are so many pairs; some are there already.

    Those that are missing may lift every subset with one of them above the margin, and no other.
    """
    lost = int(np.count_nonzero(_subset_means(differences) <= margin)) if differences else 0
    return (1 + lost) * 0.5**pairs <= alpha


def used(pairs: int, *, alpha: float) -> float:
    """What the exact test of so many pairs can use of alpha: its p are multiples of the smallest one."""
    return floor(alpha * 2**pairs) * least_p(pairs)


def pairs_needed(differences: Sequence[float], *, margin: float, alpha: float, power: float = 0.8) -> int | None:
    """How many pairs would show the lead that these have with that probability, by the normal approximation.

    None if these have no lead, or no spread by which that can be told, or the exact test takes fewer than that.
    """
    lead = float(np.mean(differences)) - margin
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    if lead <= 0 or spread == 0 or alpha <= 0:
        return None
    needed = ((special.ndtri(alpha) + special.ndtri(1 - power)) * spread / lead) ** 2
    enough = (pairs for pairs in range(1, MOST_PAIRS + 1) if least_p(pairs) <= alpha and pairs >= needed)
    return next(enough, None)


def _subset_means(differences: Sequence[float]) -> np.ndarray:
    """The mean of every subset but the empty one."""
    assert 1 <= len(differences) <= MOST_PAIRS
    members = (np.arange(1, 2 ** len(differences))[:, None] >> np.arange(len(differences))) & 1
    return members @ np.asarray(differences, dtype=float) / members.sum(axis=1)
