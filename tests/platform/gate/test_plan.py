import pytest

from advseg.platform.gate.plan import SUPERVISED, champion_arm, plan_of, trial_arm
from advseg.platform.spec.confirm import Confirm

CONFIRM = Confirm(candidates=2, seeds=6)
PLAN = plan_of(CONFIRM, 41, [4, 7], champion_arm("3", "0123456789"))


def test_all_are_trained_on_the_same_fresh_seeds_seed_by_seed() -> None:
    names = [arm.training(seed) for arm, seed in PLAN.trainings()]
    assert names[:5] == [
        "confirm-champion-3-01234567-s42",
        "confirm-baseline-s42",
        "confirm-4-s42",
        "confirm-7-s42",
        "confirm-champion-3-01234567-s43",
    ]
    assert len(names) == len(set(names)) == 4 * 6


def test_without_a_champion_the_baseline_is_to_be_beaten() -> None:
    assert plan_of(CONFIRM, 0, [4], None).rivals == [SUPERVISED]


def test_values_are_those_of_trainings_that_have_ended() -> None:
    ended = {
        "confirm-4-s42": 61.0,
        "confirm-4-s43": None,
        "confirm-champion-3-01234567-s42": 60.0,
        "confirm-7-s99": 1.0,
    }
    candidates, rivals = PLAN.values(ended)
    assert candidates == {4: {42: 61.0, 43: None}, 7: {}}
    assert rivals == {"the champion, version 3": {42: 60.0}, "the supervised baseline": {}}


@pytest.mark.parametrize(
    ("ended", "wanted"),
    [
        ({}, {4, 7, "rivals"}),
        # One seed on which it failed is enough to be out.
        ({trial_arm(4).training(42): None}, {7, "rivals"}),
        ({trial_arm(4).training(42): None, trial_arm(7).training(43): None}, set()),
        # Two of six pairs below: three subsets that speak against it, and p is at least 4 / 64.
        (
            {arm.training(seed): 60.0 for arm in PLAN.rivals for seed in (42, 43)}
            | {trial_arm(4).training(seed): 59.0 for seed in (42, 43)}
            | {trial_arm(7).training(seed): 61.0 for seed in (42, 43)},
            {7, "rivals"},
        ),
    ],
)
def test_what_can_change_nothing_any_more_is_not_trained(
    ended: dict[str, float | None], wanted: set[int | str]
) -> None:
    of = {4: [trial_arm(4)], 7: [trial_arm(7)], "rivals": [SUPERVISED, champion_arm("3", "0123456789")]}
    for who, arms in of.items():
        assert {PLAN.is_wanted(arm.training(44), ended) for arm in arms} == {who in wanted}
