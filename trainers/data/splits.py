"""Which images of the labelled list keep their masks."""

from collections.abc import Sequence

import numpy as np


def choose(count: int, fraction: float, seed: int, order: Sequence[int] | None = None) -> list[int]:
    """The indices, rising, of the share of `count` images whose masks are trained on; always at least one.

    They are the first of `order`, or else of a permutation that the seed alone determines, so a smaller
    fraction is part of a larger one. (The permutation sorts raw words of Philox, Salmon et al. 2011, which NumPy
    keeps the same from version to version.)
    """
    if order is None:
        words = np.array(np.random.Philox(key=[seed, 0]).random_raw(count))
        order = [int(index) for index in words.argsort(kind="stable")]
    return sorted(order[: max(1, round(fraction * count))])
