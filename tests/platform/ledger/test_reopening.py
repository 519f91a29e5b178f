"""Failed trials that are handed out again."""

import math
from collections.abc import Callable

import pytest
from optuna.trial import TrialState

from advseg.platform.ledger.ledger import Ledger
from advseg.platform.spec.spec import Spec
from advseg.platform.workers.account import Account
from advseg.trainers.errors import FencedError, UserError


@pytest.fixture
def ended(make_spec: Callable[..., Spec], opened: Callable[..., Ledger]) -> Ledger:
    """A ledger of three trials: 0 failed after a report, 1 is complete, 2 failed by a bad value."""
    ledger = opened(make_spec("sweep.trials=4"))
    for number in range(3):
        assert ledger.propose() == number
        ledger.note(number, Account(attempts=4, lost=3, device_seconds=9.0, run_id=f"run-{number}"))
        ledger.report(number, 4, 30.0 + number)
    ledger.report(2, 8, math.nan)
    ledger.finish(0, TrialState.FAIL, "worker lost too often")
    ledger.finish(1, TrialState.COMPLETE)
    ledger.finish(2, TrialState.FAIL, "bad value: nan")
    return ledger


def test_are_the_same_rows_unfinished_and_counted_once(
    ended: Ledger, make_spec: Callable[..., Spec], opened: Callable[..., Ledger]
) -> None:
    point = ended.row(0).params
    assert ended.reopen([]) == [0, 2]
    assert ended.unfinished() == [0, 2]
    again = opened(make_spec("sweep.trials=4"))
    assert [row.state.name for row in again.rows()] == ["RUNNING", "COMPLETE", "RUNNING"]
    assert again.unfinished() == [0, 2]
    row = again.row(0)
    assert (row.reason, row.params, row.curve) == ("", point, {4: 30.0})
    assert again.propose() == 3
    assert again.propose() is None
    again.report(0, 8, 60.0)
    again.finish(0, TrialState.COMPLETE)
    assert (again.row(0).state, again.row(0).value) == (TrialState.COMPLETE, 60.0)


def test_keep_what_they_have_cost_and_may_lose_workers_anew(ended: Ledger) -> None:
    ended.reopen([0])
    assert ended.row(0).account == Account(attempts=4, lost=0, device_seconds=9.0, run_id="run-0")
    assert ended.row(2).state is TrialState.FAIL


def test_may_report_again_what_was_no_number(ended: Ledger) -> None:
    ended.reopen([2])
    assert ended.row(2).curve == {4: 32.0}
    ended.report(2, 8, 50.0)
    assert ended.row(2).value == 50.0


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "trial 1 of sweep probe is COMPLETE"), (7, "trial 7 of sweep probe is not there")],
)
def test_are_failed_ones_alone(ended: Ledger, number: int, words: str) -> None:
    with pytest.raises(UserError, match=f"{words}, but only failed ones are handed out again; failed: 0, 2"):
        ended.reopen([0, number])
    assert ended.row(0).state is TrialState.FAIL


def test_are_left_alone_by_who_owns_the_sweep_no_more(
    ended: Ledger, make_spec: Callable[..., Spec], opened: Callable[..., Ledger]
) -> None:
    again = opened(make_spec("sweep.trials=4"))
    with pytest.raises(FencedError):
        ended.reopen([])
    assert [row.state.name for row in again.rows()] == ["FAIL", "COMPLETE", "FAIL"]
