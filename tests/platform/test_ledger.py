import math
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from advseg.platform.ledger import Ledger, Row, best_row, ledger_file, ledger_url, open_ledger, read_rows, seed_of
from advseg.platform.spec import Spec
from advseg.trainers.errors import UserError

MakeSpec = Callable[..., Spec]

FIRST = (
    "sweep.first=[{trainer.lambda_adv: 0.5, trainer.threshold: 0.25}, {trainer.lambda_adv: 1, trainer.threshold: 0}]"
)
HALVING = "sweep.pruner={name: successive_halving, min_resource: 2, reduction_factor: 2}"


def ask(ledger: Ledger) -> dict[str, float]:
    """The point of a new trial."""
    number = ledger.propose()
    assert number is not None
    return ledger.row(number).params


def complete(ledger: Ledger, number: int, *values: float) -> None:
    """Report values at steps 1, 2, ... and finish."""
    for step, value in enumerate(values, start=1):
        ledger.report(number, step, value)
    ledger.finish(number, TrialState.COMPLETE)


def row(number: int, state: TrialState = TrialState.COMPLETE, value: float | None = None) -> Row:
    return Row(number=number, params={}, state=state, reason="", curve={} if value is None else {8: value})


class TestProposals:
    def test_begin_with_the_first_points_as_trial_0_and_on(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec(FIRST))
        assert ask(ledger) == {"trainer.lambda_adv": 0.5, "trainer.threshold": 0.25}
        assert ask(ledger) == {"trainer.lambda_adv": 1, "trainer.threshold": 0}
        assert ask(ledger)["trainer.lambda_adv"] not in (0.5, 1)
        assert [row.number for row in ledger.rows()] == [0, 1, 2]

    def test_lie_in_the_space(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec("sweep.trials=30"))
        points = [ask(ledger) for _ in range(30)]
        assert all(0.001 <= point["trainer.lambda_adv"] <= 1 for point in points)
        assert all(0 <= point["trainer.threshold"] <= 0.9 for point in points)
        # A logarithmic range is drawn in its logarithm: below the square root of its ends' product in half the cases.
        assert 5 < sum(point["trainer.lambda_adv"] < 0.0316 for point in points) < 25

    def test_of_a_ledger_that_is_opened_anew_are_those_of_one_kept_open(
        self, make_spec: MakeSpec, tmp_path: Path
    ) -> None:
        spec = make_spec("sweep.trials=8", "sweep.sampler.startup_trials=3")
        kept = open_ledger(tmp_path / "kept", spec)
        for number in range(8):
            anew = open_ledger(tmp_path / "anew", spec)
            assert ask(anew) == ask(kept)
            for ledger in (anew, kept):
                complete(ledger, number, number * 7 % 5)

    def test_depend_on_the_seed(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        points = [ask(open_ledger(tmp_path / seed, make_spec(f"trainer.seed={seed}"))) for seed in "12"]
        assert points[0] != points[1]

    def test_do_not_depend_on_the_order_of_the_spaces_keys(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        turned = (
            "sweep.space={trainer.threshold: {low: 0, high: 0.9}, trainer.lambda_adv: {low: 0.001, high: 1, log: true}}"
        )
        assert ask(open_ledger(tmp_path / "a", make_spec(turned))) == ask(open_ledger(tmp_path / "b", make_spec()))

    def test_never_come_twice(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        points = [tuple(ask(open_ledger(tmp_path, make_spec())).values()) for _ in range(5)]
        assert len(set(points)) == 5

    def test_end_with_the_budget(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec("sweep.trials=2"))
        assert [ledger.propose() for _ in range(4)] == [0, 1, None, None]

    def test_end_with_the_budget_even_if_first_points_are_left(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec(FIRST, "sweep.trials=1"))
        assert [ledger.propose() for _ in range(2)] == [0, None]
        assert [row.number for row in ledger.rows()] == [0]

    def test_go_on_when_the_budget_is_raised(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec("sweep.trials=1"))
        complete(ledger, ledger.propose() or 0, 3.0)
        assert ledger.propose() is None
        raised = open_ledger(tmp_path, make_spec("sweep.trials=3", "sweep.concurrency=9"))
        assert [raised.propose() for _ in range(3)] == [1, 2, None]

    def test_seeds_fit_the_sampler_and_differ(self) -> None:
        seeds = {seed_of(seed, number) for seed in range(20) for number in range(20)}
        assert len(seeds) == 400
        assert max(seeds) < 2**32


class TestUnfinished:
    def test_trials_are_found_after_reopening(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec())
        points = [ask(ledger) for _ in range(3)]
        complete(ledger, 1, 3.0)
        ledger.report(2, 1, 4.0)
        anew = open_ledger(tmp_path, make_spec())
        assert anew.unfinished() == [0, 2]
        assert anew.row(2).curve == {1: 4.0}
        assert anew.row(2).params == points[2]

    def test_points_are_completed_when_a_crash_cut_their_drawing_short(
        self, make_spec: MakeSpec, tmp_path: Path
    ) -> None:
        open_ledger(tmp_path, make_spec(FIRST))
        # Optuna writes one value of a point after the other.
        study = optuna.load_study(study_name="probe", storage=ledger_url(tmp_path))
        study.ask({"trainer.lambda_adv": FloatDistribution(0.001, 1, log=True)})
        assert list(read_rows(tmp_path, "probe")[0].params) == ["trainer.lambda_adv"]

        anew = open_ledger(tmp_path, make_spec(FIRST))
        assert anew.unfinished() == [0]
        assert anew.row(0).params == {"trainer.lambda_adv": 0.5, "trainer.threshold": 0.25}


class TestReports:
    def test_of_a_step_keep_the_first(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec())
        ledger.propose()
        ledger.report(0, 4, 10.0)
        ledger.report(0, 4, 99.0)
        assert ledger.row(0).curve == {4: 10.0}

    def test_come_in_any_order_and_the_newest_step_counts(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec())
        ledger.propose()
        for step, value in ((8, 30.0), (2, 50.0), (4, 40.0)):
            ledger.report(0, step, value)
        ledger.finish(0, TrialState.COMPLETE)
        assert list(ledger.row(0).curve) == [2, 4, 8]
        assert ledger.row(0).value == 30.0

    def test_after_the_end_are_ignored(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec())
        ledger.propose()
        complete(ledger, 0, 1.0)
        ledger.report(0, 9, 2.0)
        assert ledger.row(0).curve == {1: 1.0}


class TestFinish:
    def test_twice_keeps_the_first(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec())
        ledger.propose()
        ledger.finish(0, TrialState.FAIL, "out of memory")
        ledger.finish(0, TrialState.COMPLETE)
        ledger.finish(0, TrialState.FAIL, "something else")
        assert (ledger.row(0).state, ledger.row(0).reason) == (TrialState.FAIL, "out of memory")

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_complete_without_a_finite_value_is_a_failure(
        self, make_spec: MakeSpec, tmp_path: Path, value: float
    ) -> None:
        ledger = open_ledger(tmp_path, make_spec())
        ledger.propose()
        complete(ledger, 0, 90.0, value)
        assert ledger.row(0).state is TrialState.FAIL
        assert ledger.row(0).reason == f"bad value: {value}"
        assert best_row(ledger.rows()) is None

    def test_complete_without_any_value_is_a_failure(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec())
        ledger.propose()
        ledger.finish(0, TrialState.COMPLETE)
        assert (ledger.row(0).state, ledger.row(0).reason) == (TrialState.FAIL, "bad value: None")

    def test_survives_reopening(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec())
        ledger.propose()
        complete(ledger, 0, 1.0, 2.0)
        assert open_ledger(tmp_path, make_spec()).row(0) == ledger.row(0)


class TestPruning:
    def test_halves_as_computed_by_hand(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        # At step 2 a trial goes on if it is among the best half, rounded down but at least one, of those judged there
        # so far: 50 of (50); 40 not of (50, 40); 60 of (60, 50, 40); 55 of (60, 55, 50, 40); 52 not of five; and so on.
        spec = make_spec(HALVING, "sweep.trials=8")
        values = [50.0, 40.0, 60.0, 55.0, 52.0, 56.0, 54.0]
        ledger = open_ledger(tmp_path, spec)
        pruned = []
        for number, value in enumerate(values):
            ledger.propose()
            ledger.report(number, 1, 99.0)
            assert not ledger.should_prune(number)
            ledger.report(number, 2, value)
            if ledger.should_prune(number):
                pruned.append(number)
                ledger.finish(number, TrialState.PRUNED, "not among the best at step 2")
        assert pruned == [1, 4, 6]

    def test_judges_again_when_the_steps_have_doubled(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec(HALVING))
        for number, curve in enumerate([{2: 50.0, 4: 60.0}, {2: 51.0, 3: 0.0, 4: 59.0}]):
            ledger.propose()
            for step, value in curve.items():
                ledger.report(number, step, value)
                assert ledger.should_prune(number) == ((number, step) == (1, 4))

    def test_decides_the_same_after_reopening(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        for number, (value, stops) in enumerate([(50.0, False), (40.0, True), (60.0, False)]):
            open_ledger(tmp_path, make_spec(HALVING)).propose()
            open_ledger(tmp_path, make_spec(HALVING)).report(number, 2, value)
            assert open_ledger(tmp_path, make_spec(HALVING)).should_prune(number) is stops

    def test_never_happens_without_a_pruner(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec())
        for number in range(3):
            ledger.propose()
            ledger.report(number, 2, -number)
            assert not ledger.should_prune(number)

    def test_keeps_the_curve(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec())
        ledger.propose()
        ledger.report(0, 2, 12.0)
        ledger.report(0, 4, 11.0)
        ledger.finish(0, TrialState.PRUNED, "not among the best at step 4")
        assert ledger.row(0).curve == {2: 12.0, 4: 11.0}
        assert ledger.row(0).value == 11.0
        assert best_row(ledger.rows()) is None


class TestOpening:
    def test_with_another_spec_is_refused_with_a_remedy(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        open_ledger(tmp_path, make_spec())
        with pytest.raises(UserError, match=r"was begun with another spec.*--set name=probe-2"):
            open_ledger(tmp_path, make_spec("trainer.seed=1"))
        open_ledger(tmp_path, make_spec("trainer.seed=1", "name=probe-2"))

    def test_twice_before_the_first_trial_adds_no_point(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        for _ in range(2):
            ledger = open_ledger(tmp_path, make_spec(FIRST, "sweep.trials=9"))
        assert [ask(ledger)["trainer.lambda_adv"] in (0.5, 1) for _ in range(4)] == [True, True, False, False]

    @pytest.mark.parametrize("opens", [lambda path, _: read_rows(path, "probe"), open_ledger], ids=["read", "open"])
    def test_a_file_that_is_no_database_is_an_error_in_words(
        self, make_spec: MakeSpec, tmp_path: Path, opens: Callable[[Path, Spec], object]
    ) -> None:
        ledger_file(tmp_path).write_text("this is no database, however long it goes on")
        with pytest.raises(UserError, match=r"ledger .*ledger\.db cannot be read") as caught:
            opens(tmp_path, make_spec())
        assert "\n" not in str(caught.value)


class TestReading:
    def test_an_unknown_sweep_names_the_known_ones(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"there is no sweep other in .*; known sweeps: none yet"):
            read_rows(tmp_path, "other")
        assert not ledger_file(tmp_path).exists()
        open_ledger(tmp_path, make_spec())
        with pytest.raises(UserError, match="known sweeps: probe"):
            read_rows(tmp_path, "other")

    def test_gives_the_ledgers_rows(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        ledger = open_ledger(tmp_path, make_spec(FIRST))
        assert read_rows(tmp_path, "probe") == []
        ledger.propose()
        ledger.report(0, 1, 5.0)
        assert read_rows(tmp_path, "probe") == ledger.rows()


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
