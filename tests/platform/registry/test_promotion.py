from dataclasses import replace
from typing import Any

import pytest

from advseg.models.architectures import IMAGENET, CompactSettings
from advseg.models.card import Card
from advseg.platform.gate.verdict import Gate
from advseg.platform.registry.promotion import Candidate, Promote, Standing, decide, standing_of

from .conftest import gate_of

SITTING = Standing(version="2", dataset="ab", protocol={"mode": "whole"}, run="theirs")
CHALLENGER = replace(SITTING, version="3", run="ours")


def test_nobody_is_promoted_by_being_the_best_of_a_sweep() -> None:
    for sitting in (None, SITTING):
        decision = decide(sitting, CHALLENGER, None)
        assert decision == Candidate(reason="it is the best of its sweep, and was not confirmed on fresh seeds")


def test_who_passes_the_gate_is_promoted() -> None:
    for sitting, gate in ((None, gate_of(2)), (SITTING, gate_of(2, "theirs", "2"))):
        assert decide(sitting, CHALLENGER, gate) == Promote(reason=gate.reason)


def test_who_does_not_pass_is_a_candidate() -> None:
    gate = gate_of(0, "theirs", "2")
    assert decide(SITTING, CHALLENGER, gate) == Candidate(reason=gate.reason)


@pytest.mark.parametrize(
    ("sitting", "gate", "reason"),
    [
        ({"dataset": "cd"}, gate_of(2, "theirs", "2"), "the champion, version 2, was judged on other data"),
        ({"dataset": None}, gate_of(2, "theirs", "2"), "the champion, version 2, was judged on other data"),
        (
            {"protocol": {"mode": "sliding"}},
            gate_of(2, "theirs", "2"),
            "was judged in another way, see trainer.evaluation",
        ),
        # Another model's version 2, or one of this name that was deleted and made anew.
        ({"run": "another"}, gate_of(2, "theirs", "2"), "it was not compared with the champion, version 2"),
        ({"run": None}, gate_of(2), "the champion, version 2, came of no run"),
        (
            {"version": "4", "run": "another"},
            gate_of(2, "theirs", "2"),
            "it was not compared with the champion, version 4",
        ),
        ({}, gate_of(2), "it was not compared with the champion, version 2"),
    ],
)
def test_no_champion_gives_way_to_one_that_it_was_not_compared_with(
    sitting: dict[str, Any], gate: Gate, reason: str
) -> None:
    decision = decide(replace(SITTING, **sitting), CHALLENGER, gate)
    assert isinstance(decision, Candidate)
    assert reason in decision.reason


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
        assert standing_of("7", self.card(lineage, **{"val/miou": 41.5}), "r") == Standing(
            version="7", dataset="ab", protocol={"mode": "whole", "stride": 0.5}, run="r"
        )

    @pytest.mark.parametrize("lineage", [{}, {"spec": {}}, {"spec": {"trainer": 3}}, {"spec": {"trainer": {}}}])
    def test_of_a_card_that_says_little_is_unknown(self, lineage: dict[str, Any]) -> None:
        assert standing_of("7", self.card(lineage), "") == Standing(version="7", dataset=None, protocol=None, run=None)
