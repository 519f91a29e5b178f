"""A network and a device in words."""

import torch
from torch import nn


def network(segmenter: nn.Module, architecture: str) -> str:
    """A network's kind and size."""
    return f"{architecture} of {sum(parameter.numel() for parameter in segmenter.parameters()):,} parameters"


def device_name(device: torch.device) -> str:
    """The GPU, or how many threads share the work."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type} with {threads} thread{'' if threads == 1 else 's'}"
