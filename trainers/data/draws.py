"""Random numbers from a key and a counter, the same in every version of NumPy.

NumPy promises the words of a bit generator (`random_raw`), but not what its `Generator` makes of them. What is made of
them here is what NumPy 2.4 does, so that trainings begun by its `Generator` go on with the same pixels.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

_HALF = 2**32
"""Numbers in half a word of Philox."""


def key_of(*parts: str | int) -> list[int]:
    """The key that some parts determine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    words = [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")]
    if min(words) < 2**63 <= max(words):
        # NumPy 2.4 makes floating point numbers of such a list, and rounds them.
        words = [int(float(word)) % 2**64 for word in words]
    return words


class Draws:
    """The numbers of one key and counter, one after the other."""

    def __init__(self, key: Sequence[int], counter: Sequence[int]) -> None:
        """Both are 64-bit words of Philox (Salmon et al., 2011): two and four of them."""
        self._philox = np.random.Philox(key=np.array(key, np.uint64), counter=np.array(counter, np.uint64))
        self._words: list[int] = []
        """Those that were fetched, the next one last."""
        self._fetched = 4
        """How many at a time: ever more, as a crop takes few and an order many."""
        self._upper: int | None = None
        """Half of a word whose other half was drawn."""

    def random(self) -> float:
        """Uniform in [0, 1), of 53 bits."""
        return (self._word() >> 11) * 2.0**-53

    def uniform(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.random()

    def integers(self, count: int) -> int:
        """Uniform in 0 ... count - 1, of at most 2^32 - 1, by multiplication and rejection (Lemire, 2019)."""
        if count == 1:
            return 0
        product = self._half_word() * count
        if product % _HALF < count:
            threshold = _HALF % count
            while product % _HALF < threshold:
                product = self._half_word() * count
        return product // _HALF

    def permutation(self, count: int) -> np.ndarray:
        """The numbers 0 ... count - 1 in a random order (Fisher-Yates, from the back); int64."""
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            mask = 2 ** last.bit_length() - 1
            while (chosen := self._half_word() & mask) > last:
                pass
            order[last], order[chosen] = order[chosen], order[last]
        return np.array(order, np.int64)

    def _half_word(self) -> int:
        """32 bits: of each word first the lower half, then the upper."""
        if self._upper is not None:
            half, self._upper = self._upper, None
            return half
        self._upper, half = divmod(self._word(), _HALF)
        return half

    def _word(self) -> int:
        if not self._words:
            self._words = self._philox.random_raw(self._fetched).tolist()[::-1]
            self._fetched = min(2 * self._fetched, 4096)
        return self._words.pop()
