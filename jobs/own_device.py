"""On which device this process computes, of what somebody named and what there is."""

import torch

from ..models.model import device_of
from ..trainers.errors import UserError


def device_named(name: str) -> torch.device:
    """The device of a name. Raises UserError for one that is not there or does not work."""
    try:
        return device_of(name)
    except ValueError as error:
        raise UserError(f"{error}: choose another --device") from None


def own_device(name: str | None, gpus: int, place: int = 0, processes: int = 1) -> torch.device:
    """The device of one of several processes on a machine with so many GPUs; by default a GPU, if any.

    `place` counts the processes from 0: of GPUs each has its own. Raises UserError where that cannot be, and for a
    device that is not there.
    """
    kind = ("cuda" if gpus else "cpu") if name is None else name
    if processes > 1 and kind not in ("cpu", "cuda"):
        raise UserError(
            f"--device is {kind!r}, but torchrun has started {processes} processes here: name cpu or cuda, of which "
            f"each takes its own"
        )
    if kind != "cuda" or not gpus:
        return device_named(kind)
    if processes > gpus:
        has = "is 1 GPU" if gpus == 1 else f"are {gpus} GPUs"
        raise UserError(
            f"torchrun has started {processes} processes here, but there {has}, and no two can share one: lower "
            f"--nproc-per-node, or compute on --device cpu"
        )
    return torch.device("cuda", place)
