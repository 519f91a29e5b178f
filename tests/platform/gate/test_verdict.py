from collections.abc import Mapping

import numpy as np
import pytest
from scipy import stats

from advseg.platform.gate.verdict import Gate, Looked, Outcome, hopeless, judge
from advseg.platform.spec.confirm import Confirm

CONFIRM = Confirm()
SEEDS = range(CONFIRM.seeds)
CHAMPION, BASELINE = "the champion, version 2", "the baseline"


def values(*miou: float | None) -> dict[int, float | None]:
    return dict(enumerate(miou))


def promotions(
    lead: float, *, trials: int = 3, repeats: int = 400, confirm: Confirm = CONFIRM, early: bool = True
) -> int:
    """How many sweeps promote a trial, if all are better than the champion by `lead` spreads of paired differences.

    As the sweep does it: the best by a first seed are candidates, and who is hopeless is trained no further.
    """
    generator = np.random.default_rng(11)
    promoted = 0
    for _ in range(repeats):
        chosen = np.argsort(-generator.normal(size=trials))[: confirm.candidates]
        # Of two trainings, each with a spread of 1, the difference has one of the root of 2.
        rival = dict(enumerate(generator.normal(60, 1, confirm.seeds)))
        candidates: dict[int, dict[int, float]] = {int(trial): {} for trial in chosen}
        for seed in range(confirm.seeds):
            for mine in candidates.values():
                value = generator.normal(60 + lead * 2**0.5)
                if not (early and hopeless(confirm, mine, {CHAMPION: rival})):
                    mine[seed] = value
        promoted += judge(confirm, candidates, {CHAMPION: rival}).outcome is Outcome.PROMOTED
    return promoted


@pytest.mark.parametrize("trials", [3, 50])
@pytest.mark.parametrize("test", ["sign_flip", "t"])
def test_trials_that_are_no_better_pass_as_seldom_as_alpha_says(test: str, trials: int) -> None:
    confirm = Confirm(test=test)
    most = stats.binom.ppf(0.999, 400, confirm.alpha)
    assert promotions(0, trials=trials, confirm=confirm) <= most


def test_asking_again_and_again_passes_one_that_is_no_better_as_seldom() -> None:
    generator = np.random.default_rng(7)
    asked = [Confirm(candidates=1, seeds=seeds) for seeds in (5, 6, 7, 8, 9, 10, 11)]
    promoted = 0
    for _ in range(400):
        mine, rival = (dict(enumerate(generator.normal(60, 1, 16))) for _ in range(2))
        looked: Mapping[int, Looked] = {}
        for confirm in asked:
            seeds = range(confirm.seeds)
            gate = judge(confirm, {0: {s: mine[s] for s in seeds}}, {CHAMPION: {s: rival[s] for s in seeds}}, looked)
            looked = gate.looked
            if gate.passes:
                promoted += 1
                break
    assert promoted <= stats.binom.ppf(0.999, 400, 0.05)


def test_a_later_look_has_what_is_left_of_alpha() -> None:
    five = Confirm(candidates=1, seeds=5)
    first = judge(five, {0: values(61, 62, 61, 59, 62)}, {CHAMPION: values(*[60.0] * 5)})
    assert first.looked == {0: Looked(times=1, used=1 / 32)}
    again = judge(five, {0: values(*[61.0] * 5)}, {CHAMPION: values(*[60.0] * 5)}, first.looked)
    assert (again.outcome, again.looked) == (Outcome.KEPT, first.looked)
    assert again.reason.endswith("but earlier looks at it have left too little of alpha = 0.05 for 5 seeds")
    more = judge(
        CONFIRM.model_copy(update={"candidates": 1}),
        {0: values(*[61.0] * 6)},
        {CHAMPION: values(*[60.0] * 6)},
        first.looked,
    )
    assert (more.outcome, more.looked) == (Outcome.PROMOTED, {0: Looked(times=2, used=1 / 32 + 1 / 64)})
    assert more.reason.endswith("(look 2 at it, which needs p of at most 0.019)")
    student = Confirm(candidates=1, test="t")
    all_used = judge(student, {0: values(*[61.0] * 6)}, {CHAMPION: values(*[60.0] * 6)}).looked
    assert not judge(student, {0: values(*[61.0] * 6)}, {CHAMPION: values(*[60.0] * 6)}, all_used).passes


@pytest.mark.parametrize("test", ["sign_flip", "t"])
def test_a_rival_that_failed_on_every_seed_cannot_be_compared_with(test: str) -> None:
    rivals = {CHAMPION: values(*[None] * 6), BASELINE: values(50, 51, 52, 50, 51, 52)}
    gate = judge(Confirm(candidates=1, test=test), {0: values(*[60.0] * 6)}, rivals)
    assert (gate.outcome, gate.ahead) == (Outcome.KEPT, None)
    assert gate.reason.endswith(f"but it cannot be compared with {CHAMPION}, which failed on every seed")


def test_a_value_that_is_no_number_failed() -> None:
    nan = float("nan")
    gate = judge(Confirm(candidates=1), {0: values(*[nan] * 6)}, {CHAMPION: values(*[60.0] * 6)})
    assert not gate.passes
    assert not judge(Confirm(candidates=1), {0: values(*[60.0] * 6)}, {CHAMPION: values(*[nan] * 6)}).passes


def test_a_lead_of_just_the_margin_is_not_more_by_rounding() -> None:
    lead, rivals = {0: values(*[50.1] * 6)}, {CHAMPION: values(*[50.0] * 6)}
    assert not judge(Confirm(candidates=1, margin=0.1), lead, rivals).passes


def test_the_simulation_would_see_a_gate_that_takes_the_best_on_average() -> None:
    lenient = Confirm(alpha=0.49)
    assert promotions(0, confirm=lenient) > stats.binom.ppf(0.999, 400, CONFIRM.alpha)


@pytest.mark.parametrize("confirm", [CONFIRM, Confirm(seeds=5, candidates=1), Confirm(seeds=5, test="t")])
def test_a_trial_that_is_better_by_twice_the_spread_passes(confirm: Confirm) -> None:
    assert promotions(2, trials=confirm.candidates, confirm=confirm) >= 0.8 * 400


def test_ending_early_changes_no_promotion() -> None:
    assert promotions(1) == promotions(1, early=False) > 0


def test_the_better_of_two_that_pass_is_promoted() -> None:
    gate = judge(
        CONFIRM, {4: values(63, 64, 65, 63, 64, 66), 7: values(70, 71, 72, 70, 71, 73)}, {CHAMPION: values(*[60.0] * 6)}
    )
    assert (gate.outcome, gate.ahead) == (Outcome.PROMOTED, 7)
    assert gate.reason == (
        "trial 7 is 11.17 points above the champion, version 2 on 6 seeds, 90% [+10.00, +12.00], p = 0.0156"
    )


def test_a_candidate_has_to_beat_every_rival() -> None:
    ahead = values(61, 62, 63, 61, 62, 64)
    rivals = {CHAMPION: values(*[60.0] * 6), BASELINE: values(62, 61, 64, 60, 63, 63)}
    gate = judge(Confirm(candidates=1), {0: ahead}, rivals)
    assert (gate.outcome, gate.ahead) == (Outcome.KEPT, None)
    assert gate.reason.startswith(f"no trial is ahead of {BASELINE} on fresh seeds: trial 0 is 0.00 points above")


def test_a_lead_that_may_be_chance_asks_for_seeds() -> None:
    gate = judge(Confirm(candidates=1), {0: values(62, 63, 59.5, 59.7, 63, 62)}, {CHAMPION: values(*[60.0] * 6)})
    assert gate.outcome is Outcome.UNDECIDED
    assert gate.reason.startswith("trial 0 is 1.53 points above the champion, version 2 on 6 seeds")
    assert "more seeds would probably show it at this spread" in gate.reason


def test_no_lead_keeps_the_champion() -> None:
    gate = judge(CONFIRM, {0: values(59, 58), 3: values(58)}, {CHAMPION: values(*[60.0] * 6)})
    assert gate.outcome is Outcome.KEPT
    assert gate.reason.startswith(f"no trial is ahead of {CHAMPION} on fresh seeds: trial 0 is 1.50 points below")
    assert gate.candidates[0].given_up == f"after 2 of 6 seeds it cannot be shown to beat {CHAMPION} any more"


def test_a_margin_is_to_be_exceeded() -> None:
    lead = {0: values(61, 61.5, 61.2, 61.1, 61.3, 61.4)}
    rivals = {CHAMPION: values(*[60.0] * 6)}
    assert judge(CONFIRM, lead, rivals).outcome is Outcome.PROMOTED
    assert judge(Confirm(margin=1.2), lead, rivals).outcome is not Outcome.PROMOTED


def test_one_that_failed_on_a_seed_is_out() -> None:
    gate = judge(Confirm(candidates=1), {0: values(99, None, 99, 99, 99, 99)}, {CHAMPION: values(*[60.0] * 6)})
    assert gate.outcome is not Outcome.PROMOTED
    assert "it failed on seed 1" in gate.reason


def test_a_seed_on_which_the_rival_failed_shows_nothing() -> None:
    rivals = {CHAMPION: values(60, 60, None, 60, 60, 60)}
    gate = judge(Confirm(candidates=1), {0: values(*[70.0] * 6)}, rivals)
    assert gate.outcome is Outcome.PROMOTED
    assert gate.candidates[0].comparisons[0].differences == {0: 10, 1: 10, 3: 10, 4: 10, 5: 10}
    # Five pairs are too few for three candidates.
    three: Mapping[int, dict[int, float | None]] = {trial: values(*[70.0] * 6) for trial in range(3)}
    assert judge(CONFIRM, three, rivals).outcome is not Outcome.PROMOTED


def test_a_verdict_is_read_as_it_was_written() -> None:
    gate = judge(CONFIRM, {0: values(59, 58)}, {CHAMPION: values(*[60.0] * 6)})
    assert Gate.from_json(gate.to_json()) == gate


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"seeds": 5},
            "5 seeds gives p = 0.0312 at best, but 3 candidates need 0.0167: set seeds to 6",
        ),
        ({"seeds": 2, "candidates": 1}, "but 1 candidate needs 0.05: set seeds to 5, or fewer candidates"),
        (
            {"seeds": 16, "alpha": 1e-4, "candidates": 20},
            "20 candidates need 5e-06: set fewer candidates, or a greater",
        ),
        ({"alpha": 1e-20}, "alpha"),
        ({"margin": float("inf")}, "margin"),
    ],
)
def test_a_gate_through_which_nothing_can_pass_is_refused(given: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Confirm.model_validate(given)
