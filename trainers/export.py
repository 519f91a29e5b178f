"""Trained networks leave the trainer as a model that users load."""

from pathlib import Path

from torch import Tensor, nn

from ..models.bundle import Card, save


def export(path: Path, card: Card, segmenter: nn.Module, discriminator: nn.Module | None = None) -> None:
    """Write the card's networks, in single precision, as a directory that `advseg.models.load` reads."""
    save(path, card, _float32(segmenter), _float32(discriminator) if discriminator else None)


def _float32(network: nn.Module) -> dict[str, Tensor]:
    """A network's state in single precision and in the usual order of memory."""
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
