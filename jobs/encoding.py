"""What `predict` can leave of an image, and in which files."""

from enum import StrEnum

import numpy as np
from PIL import Image

from ..models.card import Card
from ..models.model import Prediction
from ..trainers.marked import marked_npz, marked_png
from ..trainers.pictures.overlay import draw_overlay
from ..trainers.prediction import encode_mask


class Kind(StrEnum):
    """A file that is left of an image; how its name ends, after the image's without suffix."""

    MASK = ".png"
    OVERLAY = ".overlay.png"
    CONFIDENCE = ".confidence.png"
    PROBABILITIES = ".npz"


def encoded(kind: Kind, found: Prediction, image: np.ndarray, card: Card, origin: str) -> bytes:
    """The file of a kind, marked with what it was made of."""
    match kind:
        case Kind.MASK:
            return encode_mask(found.mask, card.palette, origin)
        case Kind.OVERLAY:
            return marked_png(draw_overlay(image, found.mask, card.classes, card.palette), origin)
        case Kind.CONFIDENCE:
            assert found.confidence is not None
            return marked_png(Image.fromarray((255 * found.confidence).round().astype(np.uint8)), origin)
        case Kind.PROBABILITIES:
            assert found.probabilities is not None
            return marked_npz(found.probabilities, card.classes, origin)
