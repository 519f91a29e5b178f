"""`shapes`: a small synthetic dataset on which the method's effect can be seen on a CPU.

Scenes of one to three shapes over a textured background. A shape's colour is its class's own in three
of four cases and anybody's in the fourth, so a network has to learn form as well.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from ...models.partial import partial_of
from ...models.settings import Interval, Settings
from ..errors import UserError
from .images import voc_palette, write_mask

CLASSES = ("background", "circle", "square", "triangle", "ring", "flower")
_OVERSAMPLING = 3
_HUES = {"circle": 0.0, "square": 0.2, "triangle": 0.4, "ring": 0.6, "flower": 0.8}


@dataclass(frozen=True, kw_only=True)
class ShapesSettings(Settings):
    """How many scenes of which size. The same settings always make the same files."""

    labelled: Annotated[int, Interval(1)] = 50
    unlabelled: Annotated[int, Interval(1)] = 750
    val: Annotated[int, Interval(1)] = 200
    test: Annotated[int, Interval(1)] = 6
    size: Annotated[int, Interval(16, 512)] = 48
    """Height and width in pixels."""
    seed: Annotated[int, Interval(0, 2**63, open_high=True)] = 0


def write_shapes(root: Path, settings: ShapesSettings) -> bool:
    """Write the dataset in the PASCAL VOC layout; True if written, False if it already lay there whole.

    Every image has a mask, those of the unlabelled list too: they serve to measure how accurate selected
    pixels are. Raises UserError if `root` holds something else.
    """
    stamp = root / "shapes.txt"
    description = "".join(f"{name}: {value}\n" for name, value in asdict(settings).items())
    if stamp.is_file() and stamp.read_text() == description:
        return False
    if root.exists() and not root.is_dir():
        raise UserError(f"{root} is a file, but the dataset needs a folder: name another one")
    if root.is_dir() and any(root.iterdir()):
        raise UserError(f"{root} holds something else than these shapes: remove it or name another folder")
    try:
        with partial_of(root) as partial:
            _write(partial / "new", settings)
            (partial / "new" / stamp.name).write_text(description)
            # An empty folder gives way.
            (partial / "new").rename(root)
    except OSError as error:
        raise UserError(
            f"{root} cannot be written ({error.strerror or error}): make room, or name another folder"
        ) from None
    return True


def _write(root: Path, settings: ShapesSettings) -> None:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    number = 0
    palette = voc_palette()
    for part in ("labelled", "unlabelled", "val", "test"):
        ids = []
        for _ in range(getattr(settings, part)):
            id = f"shapes_{number:05d}"
            image, mask = scene(settings.seed, number, settings.size)
            Image.fromarray(image).save(root / "JPEGImages" / f"{id}.jpg", quality=92)
            write_mask(root / "SegmentationClass" / f"{id}.png", mask, palette)
            ids.append(id)
            number += 1
        (root / "ImageSets/Segmentation" / f"{part}.txt").write_text("".join(f"{id}\n" for id in ids))


def scene(seed: int, number: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [size, size, 3] and mask uint8 [size, size] of one scene."""
    rng = np.random.Generator(np.random.Philox(key=[seed, number]))
    fine = size * _OVERSAMPLING
    y, x = np.mgrid[0:fine, 0:fine] / fine
    image = _texture(rng, x, y)
    mask = np.zeros((fine, fine), np.uint8)
    for _ in range(rng.integers(1, 4)):
        name = CLASSES[rng.integers(1, len(CLASSES))]
        inside = _inside(rng, name, x, y)
        hue = _HUES[name] if rng.random() < 0.75 else rng.random()
        colour = _rgb(hue + rng.normal(0, 0.03), rng.uniform(0.5, 0.9), rng.uniform(0.55, 1.0))
        shading = 1 + 0.15 * np.sin(2 * np.pi * (rng.uniform(1, 4) * x + rng.uniform(1, 4) * y))
        image = np.where(inside[..., None], colour * shading[..., None], image)
        mask[inside] = CLASSES.index(name)
    image = image.reshape(size, _OVERSAMPLING, size, _OVERSAMPLING, 3).mean((1, 3))
    image = image + rng.normal(0, 0.03, image.shape)
    centre = _OVERSAMPLING // 2
    return (image.clip(0, 1) * 255).round().astype(np.uint8), mask[centre::_OVERSAMPLING, centre::_OVERSAMPLING]


def _texture(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    colour = _rgb(rng.random(), rng.uniform(0.1, 0.4), rng.uniform(0.3, 0.7))
    waves = np.zeros_like(x)
    for _ in range(4):
        angle, frequency, phase = rng.uniform(0, np.pi), rng.uniform(1, 8), rng.uniform(0, 2 * np.pi)
        waves += np.sin(2 * np.pi * frequency * (np.cos(angle) * x + np.sin(angle) * y) + phase)
    return colour * (1 + 0.1 * waves[..., None])


def _inside(rng: np.random.Generator, name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where a shape of random place, size and orientation lies: bool of the shape of x and y, which run from 0 to 1."""
    centre_x, centre_y = rng.uniform(0.2, 0.8, 2)
    radius, turn = rng.uniform(0.2, 0.32), rng.uniform(0, 2 * np.pi)
    u = np.cos(turn) * (x - centre_x) - np.sin(turn) * (y - centre_y)
    v = np.sin(turn) * (x - centre_x) + np.cos(turn) * (y - centre_y)
    distance, angle = np.hypot(u, v), np.arctan2(v, u)
    match name:
        case "circle":
            return distance < radius
        case "square":
            return np.maximum(abs(u), abs(v)) < 0.85 * radius
        case "triangle":
            return np.maximum(-v, abs(u) * np.sqrt(3) / 2 + v / 2) < 0.6 * radius
        case "ring":
            return (distance < 1.05 * radius) & (distance > 0.6 * radius)
        case _:
            return distance < radius * (0.75 + 0.35 * np.cos(5 * angle))


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """HSV in 0...1 (hue wraps round) to RGB in 0...1."""
    k = (np.array([5, 3, 1]) + hue * 6) % 6
    return value * (1 - saturation * np.clip(np.minimum(k, 4 - k), 0, 1))
