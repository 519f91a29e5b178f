"""Arms are ranked by what their best trials reach on fresh seeds."""

import pytest

from advseg.platform.gate.arms import standings
from advseg.platform.gate.verdict import judge
from advseg.platform.spec.confirm import Confirm

CONFIRM = Confirm(candidates=2, seeds=8)
BASELINE = "the supervised baseline"
RIVALS = {BASELINE: dict.fromkeys(range(8), 50.0)}
ARMS = {1: "hung", 2: "hung", 4: "fixmatch", 5: "fixmatch"}


def ramp(start: float) -> dict[int, float | None]:
    return {seed: start + seed / 10 for seed in range(8)}


def test_an_arm_stands_where_its_best_trial_does_with_differences_paired_by_seed() -> None:
    gate = judge(CONFIRM, {1: ramp(55.0), 2: ramp(56.0), 4: ramp(57.5), 5: ramp(57.0)}, RIVALS)
    first, second = standings(gate, ARMS)
    assert (first.arm, first.trial, first.seeds, first.miou) == ("fixmatch", 4, 8, pytest.approx(57.85))
    assert (second.arm, second.trial, second.miou) == ("hung", 2, pytest.approx(56.35))
    assert [each.rival for each in first.over] == [BASELINE]
    assert [each.rival for each in second.over] == [BASELINE, "fixmatch"]
    estimate = second.over[1].estimate
    assert estimate
    assert (estimate.mean, estimate.low, estimate.high) == pytest.approx((-1.5, -1.5, -1.5))


def test_holm_counts_the_candidates_of_all_arms() -> None:
    two = judge(CONFIRM, {1: ramp(55.0), 4: ramp(57.0)}, RIVALS)
    four = judge(CONFIRM, {1: ramp(55.0), 2: ramp(55.0), 4: ramp(57.0), 5: ramp(57.0)}, RIVALS)
    assert (two.candidates[0].adjusted, four.candidates[0].adjusted) == pytest.approx((2 / 2**8, 4 / 2**8))


def test_one_that_was_given_up_stands_below_whoever_was_trained_on_every_seed() -> None:
    ahead: dict[int, float | None] = {0: 90.0, 1: 40.0, 2: 40.0, 3: 40.0}
    gate = judge(CONFIRM, {1: ahead, 4: ramp(30.0)}, RIVALS)
    assert [(each.arm, each.seeds) for each in standings(gate, ARMS)] == [("fixmatch", 8), ("hung", 4)]
    failed = judge(CONFIRM, {1: dict.fromkeys(range(8)), 4: ramp(55.0)}, RIVALS)
    last = standings(failed, ARMS)[-1]
    assert (last.arm, last.miou, last.seeds, last.over[-1].estimate) == ("hung", None, 0, None)


def test_a_sweep_without_arms_has_none() -> None:
    assert standings(judge(CONFIRM, {1: ramp(55.0)}, RIVALS), {1: None}) == []
