"""Networks: segmenters, the discriminator, and trained models as data."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .registered import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # The files of models are read without PyTorch, which takes seconds to import.
    if name == "load":
        from .registered import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
