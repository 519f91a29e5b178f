"""How much of the masks each class has."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ...models.resize import Resize
from ..progress import progress
from .images import READERS
from .readings import census
from .samples import Sample
from .scaled import ScaledSamples


def class_pixels(samples: Sequence[Sample], classes: int, ignore_index: int, resize: Resize | None) -> np.ndarray:
    """How many pixels of each class have the masks of samples, as a training of this `resize` reads them: int64 [K].

    The samples must have masks. Raises ImageError and what packs raise.
    """
    scaled = ScaledSamples(resize, most_bytes=0)

    def count(sample: Sample) -> np.ndarray:
        mask = scaled.mask(sample)
        assert mask is not None
        return np.bincount(mask.ravel())

    with ThreadPoolExecutor(READERS) as readers:
        counted = progress(readers.map(count, samples), len(samples), "masks counted")
        return census(counted, classes, ignore_index).pixels
