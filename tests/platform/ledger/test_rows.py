import math

import pytest
from optuna.trial import TrialState

from advseg.platform.ledger.rows import BASELINE_NUMBER, Row, best_row, fruitless, verdict_of


def row(number: int, state: TrialState = TrialState.COMPLETE, value: float | None = None) -> Row:
    return Row(number=number, params={}, state=state, reason="", curve={} if value is None else {8: value})


class TestValue:
    def test_is_that_of_the_newest_step_whatever_their_order(self) -> None:
        assert (
            Row(number=0, params={}, state=TrialState.RUNNING, reason="", curve={9: 1.0, 10: 2.0, 8: 3.0}).value == 2.0
        )

    def test_is_unknown_before_the_first_report(self) -> None:
        assert row(0).value is None


class TestBest:
    def test_is_the_first_of_equals(self) -> None:
        best = best_row([row(0, value=3.0), row(1, value=7.0), row(2, value=7.0)])
        assert best
        assert best.number == 1

    def test_is_complete(self) -> None:
        rows = [row(0, TrialState.PRUNED, 90.0), row(1, TrialState.FAIL, math.inf), row(2, TrialState.RUNNING, 80.0)]
        assert best_row(rows) is None
        assert best_row([*rows, row(3, value=0.0)]) == row(3, value=0.0)

    def test_is_none_of_none(self) -> None:
        assert best_row([]) is None


class TestFruitless:
    def test_names_the_commonest_reason_and_what_to_do(self) -> None:
        reasons = ("diverged: loss/ce", "odd", "diverged: loss/ce")
        rows = [
            Row(number=n, params={}, state=TrialState.FAIL, reason=reason, curve={}) for n, reason in enumerate(reasons)
        ]
        assert fruitless("probe", [*rows, row(3, TrialState.PRUNED)]) == (
            "sweep probe ended without a complete trial: 3 of 4 failed, 2 of them of this: diverged: loss/ce; "
            "`advseg sweep retry probe` hands them out again"
        )

    def test_is_also_a_sweep_all_of_whose_trials_were_stopped_early(self) -> None:
        assert "all were stopped early" in fruitless("probe", [row(0, TrialState.PRUNED)])


class TestVerdict:
    @pytest.mark.parametrize(
        ("best", "baseline", "gain", "is_won"),
        [
            (2.0, 1.0, 1.0, True),
            (1.0, 1.0, 0.0, False),
            (0.5, 1.0, -0.5, False),
            (None, 1.0, None, False),
            (2.0, None, None, False),
            (math.nan, 1.0, math.nan, False),
        ],
    )
    def test_is_won_by_a_higher_value_alone(
        self, best: float | None, baseline: float | None, gain: float | None, is_won: bool
    ) -> None:
        rows = [] if best is None else [row(0, value=best)]
        verdict = verdict_of(rows, row(BASELINE_NUMBER, value=baseline))
        assert verdict.is_won is is_won
        assert verdict.gain == gain or math.isnan(gain or 0.0)

    @pytest.mark.parametrize("state", [TrialState.WAITING, TrialState.RUNNING, TrialState.FAIL])
    def test_is_open_until_the_baseline_is_complete(self, state: TrialState) -> None:
        verdict = verdict_of([row(0, value=2.0)], row(BASELINE_NUMBER, state, 1.0))
        assert (verdict.baseline, verdict.gain, verdict.is_won) == (None, None, False)
