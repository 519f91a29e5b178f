"""Networks: segmenters, the discriminator, and trained models as data."""

from .bundle import load

__all__ = ["load"]
