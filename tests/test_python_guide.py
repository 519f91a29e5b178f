"""Every block of docs/python.md runs, one after another, with a tiny model."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advseg.models.architectures import IMAGENET, CompactSettings, build_segmenter
from advseg.models.bundle import save
from advseg.models.card import Card
from advseg.models.discriminator import DiscriminatorSettings, build_discriminator

GUIDE = Path(__file__).parent.parent / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.M | re.S)


def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    settings, judge = CompactSettings(width=8), DiscriminatorSettings(widths=(4,))
    card = Card(
        segmenter=settings,
        discriminator=judge,
        classes=("background", "circle", "square", "triangle"),
        palette=((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)),
        ignore_index=255,
        normalisation=IMAGENET,
    )
    networks = build_segmenter(settings, 4).state_dict(), build_discriminator(judge, 4).state_dict()
    save(tmp_path / "shapes-3", card, *networks)
    pixels = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, GUIDE.name, "exec"), scope)
    said = capsys.readouterr().out
    assert len(BLOCKS) >= 6
    assert "an image has uint8, or floats from 0 to 1, but these are from 0 to 255: " in said
    assert "<Model compact of 4 classes on " in said
