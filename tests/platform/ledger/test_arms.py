"""The trials of several methods in one study: whose turn it is, and what each arm sees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.reading import read_sweep
from advseg.platform.ledger.searches import in_turn
from advseg.platform.spec.spec import Spec
from advseg.trainers.errors import UserError

MakeSpec = Callable[..., Spec]
Opened = Callable[..., Ledger]

on_both = pytest.mark.parametrize("ledger_address", ["sqlite", "postgresql"], indirect=True)
TPE = "sweep.sampler={name: tpe, startup_trials: 2}"
ADV = {"method.lambda_adv": {"low": 0.001, "high": 1, "log": True}, "method.threshold": {"low": 0, "high": 0.9}}
LR = {"trainer.segmenter_optimizer.lr": {"low": 0.001, "high": 1, "log": True}}


@pytest.fixture
def document(document: dict[str, Any]) -> dict[str, Any]:
    """With two arms, of seven trials and of four."""
    adversarial = {"trials": 7, "space": ADV, "first": [{"method.lambda_adv": 0.5, "method.threshold": 0.25}]}
    plain = {"method": {"name": "supervised"}, "trials": 4, "space": LR}
    document["sweep"] = {"arms": {"adversarial": adversarial, "plain": plain}}
    return document


def value_of(ledger: Ledger, number: int) -> float:
    """A mean IoU that depends on the point."""
    return 10 * sum(ledger.row(number).params.values())


def work(ledger: Ledger, trials: int | None = None) -> list[tuple[str | None, dict[str, Any]]]:
    """The arms and points of new trials, which end at once; of all that are left, if it is not said how many."""
    numbers: list[int] = []
    while len(numbers) != trials and (number := ledger.propose()) is not None:
        ledger.report(number, 8, value_of(ledger, number))
        ledger.finish(number, TrialState.COMPLETE)
        numbers.append(number)
    return [(ledger.row(number).arm, ledger.row(number).params) for number in numbers]


def test_arms_take_turns_until_each_has_spent_its_budget() -> None:
    budgets: dict[str | None, int] = {"a": 1, "b": 4, "c": 2}
    trials = dict.fromkeys(budgets, 0)
    turns = ""
    while trials != budgets:
        arm = in_turn(trials, budgets)
        trials[arm] += 1
        turns += str(arm)
    assert turns == "abcbcbb"


def test_points_of_an_arm_are_those_of_a_sweep_of_it_alone(make_spec: MakeSpec, opened: Opened, tmp_path: Path) -> None:
    spec = make_spec(TPE)
    together = work(opened(spec, tmp_path / "together"))
    assert [arm for arm, _ in together] == ["adversarial", "plain"] * 4 + ["adversarial"] * 3
    for name in ("adversarial", "plain"):
        alone = work(opened(spec.arm(name), tmp_path / name))
        assert [point for _, point in alone] == [point for arm, point in together if arm == name]
    assert together[0][1] == {"method.lambda_adv": 0.5, "method.threshold": 0.25}


@on_both
def test_a_sweep_that_is_resumed_in_the_middle_has_the_points_of_one_left_alone(
    make_spec: MakeSpec, opened: Opened, tmp_path: Path, ledger_address: str | None
) -> None:
    spec = make_spec(TPE)
    alone = work(opened(spec.model_copy(update={"name": "alone"}), tmp_path / "a"))
    resumed = [each for trials in (3, 4, None) for each in work(opened(spec, tmp_path / "b"), trials)]
    assert resumed == alone
    rows = read_sweep(tmp_path / "b", "probe", ledger_address).rows
    assert [(row.arm, row.params) for row in rows] == alone


@pytest.mark.parametrize("dies", ["ask", "_suggest"])
def test_a_crash_while_a_trial_is_opened_changes_no_arm_and_no_point(
    make_spec: MakeSpec, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: str
) -> None:
    alone = work(opened(make_spec(TPE), tmp_path / "a"))
    ledger = opened(make_spec(TPE), tmp_path / "b")
    begun = work(ledger, 5)
    with monkeypatch.context() as patch:
        patch.setattr(
            optuna.Study if dies == "ask" else optuna.Trial, dies, lambda *_, **__: pytest.exit("the process died")
        )
        with pytest.raises(pytest.exit.Exception):
            ledger.propose()
    ledger = opened(make_spec(TPE), tmp_path / "b")
    for number in ledger.unfinished():
        ledger.report(number, 8, value_of(ledger, number))
        ledger.finish(number, TrialState.COMPLETE)
        begun.append((ledger.row(number).arm, ledger.row(number).params))
    assert begun + work(ledger) == alone


def test_an_arm_whose_budget_is_raised_goes_on(make_spec: MakeSpec, opened: Opened) -> None:
    assert len(work(opened(make_spec()))) == 11
    raised = opened(make_spec("sweep.arms.plain.trials=6"))
    assert [arm for arm, _ in work(raised)] == ["plain", "plain"]


def test_an_arm_whose_grid_is_spent_leaves_its_turns_to_others(make_spec: MakeSpec, opened: Opened) -> None:
    arms = [arm for arm, _ in work(opened(make_spec("sweep.sampler={name: grid, values: 2}")))]
    assert arms == ["adversarial", "plain"] * 2 + ["adversarial"] * 3


@pytest.mark.parametrize("pruner", ["successive_halving, min_resource: 2", "hyperband, min_resource: 2", "median"])
def test_a_trial_is_pruned_by_those_of_its_arm_alone(make_spec: MakeSpec, opened: Opened, pruner: str) -> None:
    startup = ", startup_trials: 1" if pruner == "median" else ""
    ledger = opened(make_spec(f"sweep.pruner={{name: {pruner}{startup}}}", "sweep.arms.plain.trials=7"))
    stopped = set()
    for number in range(14):
        assert ledger.propose() == number
        # All of one arm are better than all of the other; within an arm they are equally good.
        for step in (2, 4, 6):
            _, would_stop = ledger.report(number, step, 60.0 if number % 2 else 20.0)
            stopped |= {number} if would_stop else set()
        ledger.report(number, 8, 60.0 if number % 2 else 20.0)
        ledger.finish(number, TrialState.COMPLETE)
    assert not stopped


def test_a_failed_trial_that_is_handed_out_again_stays_in_its_arm(make_spec: MakeSpec, opened: Opened) -> None:
    ledger = opened(make_spec(TPE))
    work(ledger, 2)
    ledger.propose()
    ledger.finish(2, TrialState.FAIL, "broken")
    assert ledger.reopen([]) == [2]
    assert (ledger.row(2).arm, ledger.unfinished()) == ("adversarial", [2])
    assert work(ledger, 1)[0][0] == "plain"


def test_a_fork_learns_arm_by_arm(make_spec: MakeSpec, opened: Opened) -> None:
    work(opened(make_spec(TPE)))
    heir = opened(make_spec(TPE, "name=heir", "sweep.fork=probe"))
    assert heir.propose() == 11
    assert len(work(heir)) == 10
    other = "sweep.arms.plain.space={trainer.batch_size: {low: 4, high: 8, step: 4}}"
    with pytest.raises(
        UserError, match=r"lr in arm plain, but this spec's space has .*; trainer.batch_size in arm plain"
    ):
        opened(make_spec(TPE, "name=other", "sweep.fork=probe", other))
