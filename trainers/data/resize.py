"""Scaling images and masks so that they stay aligned: both take a pixel for a square with its centre in the middle."""

import cv2
import numpy as np

Size = tuple[int, int]
"""Height and width in pixels."""


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """An image uint8 [h, w, 3] bilinear at another height and width, also where it shrinks.

    The arithmetic is OpenCV's in whole numbers: the same bits on every machine.
    """
    return _resize(image, size, cv2.INTER_LINEAR_EXACT)


def resize_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """A mask [h, w] of uint8 or int32 ids at another height and width: each pixel has the id of the nearest one."""
    # INTER_NEAREST would take the pixel's corner for its centre and shift the mask against its image.
    return _resize(mask, size, cv2.INTER_NEAREST_EXACT)


def _resize(array: np.ndarray, size: Size, interpolation: int) -> np.ndarray:
    height, width = size
    if array.shape[:2] == size:
        return array
    return cv2.resize(array, (width, height), interpolation=interpolation)
