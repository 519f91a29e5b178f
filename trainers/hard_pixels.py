"""The k-th largest of many numbers that lie on several workers, found on their devices."""

import torch
from torch import Tensor

from .distributed import World

_DIGIT = 16
"""Bits of a number that are settled at a time."""
_BINS = 2**_DIGIT


def kth_largest(values: Tensor, k: Tensor, world: World) -> Tensor:
    """The k-th largest, k counted from 1, of all workers' values of at least 0, float32 or float64; a scalar.

    Exactly the number that sorting all of them finds, for any number of workers. They tell each other no values: as
    their bits, read as whole numbers, are in the order of the numbers, it is enough to count how often each upper half
    of the bits occurs, and then each lower half below the one that was found (radix selection). Nothing waits for the
    device.
    """
    bits = values.flatten().abs().view(torch.int32 if values.element_size() == 4 else torch.int64)
    found, inside = bits.new_zeros(1), torch.ones_like(bits, dtype=torch.bool)
    one = torch.ones((), dtype=torch.int64, device=bits.device).expand(len(bits))
    for shift in reversed(range(0, 8 * bits.element_size(), _DIGIT)):
        digits = (bits >> shift) & (_BINS - 1)
        counts = torch.zeros(_BINS + 1, dtype=torch.int64, device=bits.device)
        # What has other digits above is counted apart.
        counts.index_add_(0, digits.masked_fill(~inside, _BINS), one)
        counts = world.total(counts)[:_BINS]
        at_least = counts.flip(0).cumsum(0).flip(0)
        digit = (at_least >= k).sum(0, keepdim=True) - 1
        k = k - (at_least - counts).gather(0, digit)
        inside &= digits == digit
        found = found + (digit.to(found) << shift)
    return found.view(values.dtype).squeeze(0)
