"""On which device a worker computes."""

import os

import torch

from ..spec.resources import Resources


def device_by(resources: Resources, given: torch.device | None = None) -> torch.device:
    """A GPU only if Ray has set some aside for the worker, whatever it sees: `given`, or the first that it sees.

    Raises RuntimeError if it sees none.
    """
    if not resources.gpus_per_worker:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        raise RuntimeError(f"No CUDA GPUs are available, with CUDA_VISIBLE_DEVICES {visible}: see nvidia-smi there")
    return given or torch.device("cuda", 0)
