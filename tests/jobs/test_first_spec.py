"""The first spec, as it is written, learns on photographs.

The set is cut from the two photographs that scikit-learn ships: a temple among trees above a lake, and dahlias before
leaves. Their masks are made by rule: a petal is redder than 110 and than it is blue, air and water are bright in every
channel, the temple is what a hand drew around it, and all else are plants.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_sample_image

from advseg.jobs.first_spec import first_spec
from advseg.jobs.first_training import PROVISIONAL, scale_for
from advseg.models.decoding import PLAIN

Command = Callable[..., tuple[int, str, str]]

PLANTS, AIR, TEMPLE, PETALS = range(4)
COLOURS = np.array([[30, 120, 40], [120, 170, 230], [180, 30, 30], [250, 170, 80]], np.uint8)
OUTLINE = [
    *[(196, 25), (214, 25), (222, 66), (320, 122), (330, 180), (318, 235), (352, 255), (342, 315), (380, 335)],
    *[(345, 372), (308, 392), (318, 427), (290, 427), (290, 400), (215, 382), (190, 340), (70, 345), (60, 270)],
    *[(96, 235), (82, 182), (94, 120), (186, 68)],
]
"""Of the temple: columns and rows."""
HEIGHTS = (48, 72, 40, 53)
WIDTHS = (40, 64, 48, 80, 32, 56)
"""Of the tiles that a photograph of half the size is cut into."""


def photographs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each with its class ids."""
    china, flower = (load_sample_image(f"{name}.jpg").astype(int) for name in ("china", "flower"))
    bright = (china.min(-1) >= 105).astype(np.uint8)
    for operation in (cv2.MORPH_OPEN, cv2.MORPH_CLOSE):
        bright = cv2.morphologyEx(bright, operation, np.ones((5, 5), np.uint8))
    yield china, cv2.fillPoly(np.where(bright, AIR, PLANTS).astype(np.uint8), [np.array(OUTLINE)], TEMPLE)
    red, _, blue = np.moveaxis(flower, -1, 0)
    yield flower, np.where((red > 110) & (red > blue + 20), PETALS, PLANTS).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tiles of several sizes, lying and on end; every third has no mask."""
    folder, number = tmp_path / "photographs", 0
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for image, mask in photographs():
        image, mask = image[::2, ::2].astype(np.uint8), mask[::2, ::2]
        for row, height in zip(np.cumsum((0, *HEIGHTS)), HEIGHTS, strict=False):
            for column, width in zip(np.cumsum((0, *WIDTHS)), WIDTHS, strict=False):
                tile = np.s_[row : row + height, column : column + width]
                Image.fromarray(image[tile]).save(folder / f"images/{number:02}.png")
                if number % 3:
                    Image.fromarray(COLOURS[mask[tile]]).save(folder / f"masks/{number:02}.png")
                number += 1
    return folder


@pytest.mark.parametrize(("device", "resources"), [("cpu", None), ("cuda", {"gpus_per_worker": 0.5})])
def test_it_asks_for_a_gpu_where_it_was_measured_on_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, resources: dict[str, float] | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100")
    scale = scale_for([(64, 64)], on_gpu=device == "cuda")

    text = first_spec(tmp_path, scale, PROVISIONAL, PLAIN, unlabelled=True, test=False, device=torch.device(device))

    assert yaml.safe_load(text).get("resources") == resources


def test_its_first_steps_beat_the_commonest_class_by_far(folder: Path, advseg: Command, tmp_path: Path) -> None:
    assert advseg("data", "init", folder)[0] == 0
    spec = folder / "advseg.yaml"

    status, out, _ = advseg("data", "check", spec, "--json")

    assert status == 0
    pixels = json.loads(out)["parts"]["validation"]["pixels"]
    # Nothing but the commonest class, whose intersection is all of it and whose union is the images.
    constant = 100 * max(pixels.values()) / sum(pixels.values()) / len(pixels)

    status, _, _ = advseg("train", spec, "--to", "run", "--set=trainer.steps=100", "--set=method.semi_start=50")

    assert status == 0
    *_, last = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    miou = json.loads(last)["metrics"]["val/miou"]
    assert miou > 3 * constant

    assert advseg("predict", "run/model", folder / "images", "--to", "masks")[0] == 0
    assert len([*(tmp_path / "masks").iterdir()]) == 48
