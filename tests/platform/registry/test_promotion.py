from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.models.architectures import IMAGENET, CompactSettings
from advseg.models.card import Card
from advseg.platform.registry.promotion import Candidate, Keep, Promote, Standing, decide, standing_of

SITTING = Standing(version="2", miou=40.0, dataset="ab", protocol={"mode": "whole"})
CHALLENGER = replace(SITTING, version="3", miou=41.0)


def test_without_a_champion_there_is_one_now() -> None:
    assert decide(None, CHALLENGER) == Promote()
    assert decide(None, replace(CHALLENGER, miou=None)) == Promote()


def test_the_better_one_on_the_same_data_is_the_champion() -> None:
    assert decide(SITTING, CHALLENGER) == Promote()


@pytest.mark.parametrize("miou", [39.0, 40.0])
def test_one_that_is_no_better_changes_nothing(miou: float) -> None:
    decision = decide(SITTING, replace(CHALLENGER, miou=miou))
    assert decision == Keep(reason=f"the champion, version 2, has mIoU 40.00 on the same data, and this one {miou:.2f}")


@pytest.mark.parametrize(
    ("sitting", "challenger", "reason"),
    [
        ({"dataset": "cd"}, {}, "the champion, version 2, was judged on other data"),
        ({"dataset": None}, {"dataset": None}, "the champion, version 2, was judged on other data"),
        ({"protocol": {"mode": "sliding"}}, {}, "was judged in another way, see trainer.evaluation"),
        ({"miou": None}, {}, "the champion, version 2, has no mIoU"),
        ({"miou": float("nan")}, {}, "the champion, version 2, has no mIoU"),
        ({}, {"miou": float("nan")}, "it has no mIoU of its own"),
    ],
)
def test_one_that_cannot_be_compared_is_a_candidate(
    sitting: dict[str, Any], challenger: dict[str, Any], reason: str
) -> None:
    decision = decide(replace(SITTING, **sitting), replace(CHALLENGER, **challenger))
    assert isinstance(decision, Candidate)
    assert reason in decision.reason


@given(st.floats(0, 100), st.floats(0, 100))
def test_of_two_on_the_same_data_at_most_one_displaces_the_other(one: float, other: float) -> None:
    first, second = replace(SITTING, miou=one), replace(CHALLENGER, miou=other)
    assert [decide(first, second), decide(second, first)].count(Promote()) == (one != other)


class TestStanding:
    def card(self, lineage: dict[str, Any], **metrics: float) -> Card:
        return Card(
            segmenter=CompactSettings(width=8),
            discriminator=None,
            classes=("a",),
            palette=((0, 0, 0),),
            ignore_index=255,
            normalisation=IMAGENET,
            metrics=metrics,
            lineage=lineage,
        )

    def test_is_what_the_card_says(self) -> None:
        evaluation = {"mode": "whole", "stride": 0.5, "scales": [0.5, 2], "flip": True}
        lineage = {"dataset_digest": "ab", "spec": {"trainer": {"steps": 8, "evaluation": evaluation}}}
        assert standing_of("7", self.card(lineage, **{"val/miou": 41.5})) == Standing(
            version="7", miou=41.5, dataset="ab", protocol={"mode": "whole", "stride": 0.5}
        )

    @pytest.mark.parametrize("lineage", [{}, {"spec": {}}, {"spec": {"trainer": 3}}, {"spec": {"trainer": {}}}])
    def test_of_a_card_that_says_little_is_unknown(self, lineage: dict[str, Any]) -> None:
        assert standing_of("7", self.card(lineage)) == Standing(version="7", miou=None, dataset=None, protocol=None)
