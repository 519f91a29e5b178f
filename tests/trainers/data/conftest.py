"""A user's folder, image by image."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advseg.trainers.data.images import voc_palette, write_mask


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., Path]:
    """Add an image of one colour, and a mask with given ids or colours, to a folder; return the folder."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()

    def add(id: str, mask: object = None, *, shade: int | None = None, suffix: str = ".png", mode: str = "P") -> Path:
        shade = sum(id.encode()) % 256 if shade is None else shade
        image = tmp_path / "images" / f"{id}{suffix}"
        image.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.full((4, 6, 3), shade, np.uint8)).save(image)
        if mask is not None:
            values = np.resize(np.array(mask, np.uint8), (4, 6, 3) if mode == "RGB" else (4, 6))
            path = tmp_path / "masks" / f"{id}.png"
            path.parent.mkdir(exist_ok=True, parents=True)
            if mode == "P":
                write_mask(path, values, voc_palette())
            else:
                Image.fromarray(values).save(path)
        return tmp_path

    return add
