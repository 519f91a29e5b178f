"""Deterministic weights and batches behind adversarial_step.json.

Nothing here depends on a random state of torch: every tensor is drawn by NumPy from a seed
derived from its own name, so any implementation whose parameters carry the same names gets the
same numbers.
"""

import zlib

import numpy as np


def weights(names_and_shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """float64 value for every entry of a state dict, by name and shape (num_batches_tracked excluded)."""
    values = {}
    for name, shape in names_and_shapes.items():
        if name.endswith("num_batches_tracked"):
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if "running_mean" in name:
            value = rng.normal(0, 0.1, shape)
        elif "running_var" in name or (len(shape) == 1 and name.endswith("weight")):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            value = rng.normal(0, 0.1, shape)
        else:
            value = rng.normal(0, (2.0 / np.prod(shape[1:])) ** 0.5, shape)
        values[name] = value
    return values


def batch(
    case: str,
    iteration: int,
    height: int,
    width: int,
    size: int,
    classes: int,
    part: int = 0,
    std: float = 50.0,
):
    """(images, labels, unlabelled images, ground truth for the discriminator) of one iteration.

    Images are float64 [size, 3, height, width]; label maps are int64 [size, height, width] in
    8 x 8 blocks, with three rows (labels) or two columns (ground truth) set to 255, the ignore index.
    `part` counts the accumulated micro-batches of an iteration.
    """
    rng = np.random.default_rng([zlib.crc32(case.encode()), iteration, part])

    def blocks() -> np.ndarray:
        coarse = rng.integers(0, classes, (size, -(-height // 8), -(-width // 8)))
        return np.kron(coarse, np.ones((8, 8), int))[:, :height, :width]

    images = rng.normal(0, std, (size, 3, height, width))
    labels = blocks()
    labels[:, :3, :] = 255
    unlabelled = rng.normal(0, std, (size, 3, height, width))
    truth = blocks()
    truth[:, :, -2:] = 255
    return images, labels, unlabelled, truth
