"""What `advseg models show --json` has of a card."""

import json
from typing import Any

import pytest

from advseg.models.architectures import IMAGENET, CompactSettings
from advseg.models.card import Card
from advseg.models.resize import LongerSide, Resize
from advseg.platform.pages.models_page import card_json


@pytest.mark.parametrize(
    ("resize", "told"),
    [(None, None), ((24, 16), [24, 16]), (LongerSide(longer=640), {"longer": 640, "multiple": 1})],
)
def test_the_size_at_which_a_model_reads_is_told_as_its_card_has_it(resize: Resize | None, told: Any) -> None:
    card = Card(
        segmenter=CompactSettings(width=8),
        discriminator=None,
        classes=("sky", "sea"),
        palette=((0, 0, 0), (0, 0, 255)),
        ignore_index=255,
        normalisation=IMAGENET,
        resize=resize,
    )
    assert json.loads(json.dumps(card_json("beach version 1", card, None, ())))["resize"] == told
