"""Tensors in a file: safetensors, whose failures to write are OSErrors here, as those of any other file are."""

import os
import re
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors by name. Raises OSError, for a full disk among others."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        if (found := re.search(r"\(os error (\d+)\)", str(error))) is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from None
