import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.ownership import Owner
from advseg.platform.ledger.reading import read_spec, read_sweep, sweep_names
from advseg.platform.ledger.rows import best_row
from advseg.platform.spec.ledger_address import ledger_file
from advseg.platform.spec.spec import Spec
from advseg.platform.workers.account import Account
from advseg.trainers.errors import UserError

from ..conftest import writing

MakeSpec = Callable[..., Spec]
Opened = Callable[..., Ledger]

on_both = pytest.mark.parametrize("ledger_address", ["sqlite", "postgresql"], indirect=True)
FIRST = "sweep.first=[{method.lambda_adv: 0.5, method.threshold: 0.25}, {method.lambda_adv: 1, method.threshold: 0}]"


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


class TestProposals:
    @on_both
    def test_begin_with_the_first_points_as_trial_0_and_on(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec(FIRST))
        assert ask(ledger) == {"method.lambda_adv": 0.5, "method.threshold": 0.25}
        assert ask(ledger) == {"method.lambda_adv": 1, "method.threshold": 0}
        assert ask(ledger)["method.lambda_adv"] not in (0.5, 1)
        assert [row.number for row in ledger.rows()] == [0, 1, 2]

    def test_lie_in_the_space(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec("sweep.trials=30"))
        points = [ask(ledger) for _ in range(30)]
        assert all(0.001 <= point["method.lambda_adv"] <= 1 for point in points)
        assert all(0 <= point["method.threshold"] <= 0.9 for point in points)
        # A logarithmic range is drawn in its logarithm: below the square root of its ends' product in half the cases.
        assert 5 < sum(point["method.lambda_adv"] < 0.0316 for point in points) < 25

    def test_of_a_ledger_that_is_opened_anew_are_those_of_one_kept_open(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        spec = make_spec("sweep.trials=8", "sweep.sampler={name: tpe, startup_trials: 3}")
        kept = opened(spec, tmp_path / "kept")
        for number in range(8):
            anew = opened(spec, tmp_path / "anew")
            assert ask(anew) == ask(kept)
            for ledger in (anew, kept):
                complete(ledger, number, number * 7 % 5)

    def test_depend_on_the_seed(self, make_spec: MakeSpec, opened: Opened, tmp_path: Path) -> None:
        points = [ask(opened(make_spec(f"trainer.seed={seed}"), tmp_path / seed)) for seed in "12"]
        assert points[0] != points[1]

    def test_do_not_depend_on_the_order_of_the_spaces_keys(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path
    ) -> None:
        turned = (
            "sweep.space={method.threshold: {low: 0, high: 0.9}, method.lambda_adv: {low: 0.001, high: 1, log: true}}"
        )
        assert ask(opened(make_spec(turned), tmp_path / "a")) == ask(opened(make_spec(), tmp_path / "b"))

    @on_both
    def test_never_come_twice(self, make_spec: MakeSpec, opened: Opened) -> None:
        points = [tuple(ask(opened(make_spec())).values()) for _ in range(5)]
        assert len(set(points)) == 5

    def test_end_with_the_budget(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec("sweep.trials=2"))
        assert [ledger.propose() for _ in range(4)] == [0, 1, None, None]

    def test_end_with_the_budget_even_if_first_points_are_left(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec(FIRST, "sweep.trials=1"))
        assert [ledger.propose() for _ in range(2)] == [0, None]
        assert [row.number for row in ledger.rows()] == [0]

    @on_both
    def test_go_on_when_the_budget_is_raised(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec("sweep.trials=1"))
        complete(ledger, ledger.propose() or 0, 3.0)
        assert ledger.propose() is None
        raised = opened(make_spec("sweep.trials=3", "sweep.concurrency=9"))
        assert [raised.propose() for _ in range(3)] == [1, 2, None]


@on_both
class TestUnfinished:
    def test_trials_are_found_after_reopening(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec())
        points = [ask(ledger) for _ in range(3)]
        complete(ledger, 1, 3.0)
        ledger.report(2, 1, 4.0)
        anew = opened(make_spec())
        assert anew.unfinished() == [0, 2]
        assert anew.row(2).curve == {1: 4.0}
        assert anew.row(2).params == points[2]

    def test_points_are_completed_when_a_crash_cut_their_drawing_short(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, ledger_address: str | None
    ) -> None:
        opened(make_spec(FIRST))
        # Optuna writes one value of a point after the other.
        with writing(tmp_path, ledger_address) as database:
            study = optuna.load_study(study_name="probe", storage=database)
            study.enqueue_trial({"method.lambda_adv": 0.5, "method.threshold": 0.25})
            study.ask({"method.lambda_adv": FloatDistribution(0.001, 1, log=True)})
        assert list(read_sweep(tmp_path, "probe", ledger_address).rows[0].params) == ["method.lambda_adv"]

        anew = opened(make_spec(FIRST))
        assert anew.unfinished() == [0]
        assert anew.row(0).params == {"method.lambda_adv": 0.5, "method.threshold": 0.25}


@on_both
class TestReports:
    def test_of_a_step_keep_the_first(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        ledger.report(0, 4, 10.0)
        ledger.report(0, 4, 99.0)
        assert ledger.row(0).curve == {4: 10.0}

    def test_come_in_any_order_and_the_newest_step_counts(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        for step, value in ((8, 30.0), (2, 50.0), (4, 40.0)):
            ledger.report(0, step, value)
        ledger.finish(0, TrialState.COMPLETE)
        assert list(ledger.row(0).curve) == [2, 4, 8]
        assert ledger.row(0).value == 30.0

    def test_are_kept_when_the_trial_is_stopped(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        ledger.report(0, 2, 12.0)
        ledger.report(0, 4, 11.0)
        ledger.finish(0, TrialState.PRUNED, "not among the best at step 4")
        assert ledger.row(0).curve == {2: 12.0, 4: 11.0}
        assert ledger.row(0).value == 11.0
        assert best_row(ledger.rows()) is None

    def test_after_the_end_are_ignored(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        complete(ledger, 0, 1.0)
        ledger.report(0, 9, 2.0)
        assert ledger.row(0).curve == {1: 1.0}


@on_both
class TestFinish:
    def test_twice_keeps_the_first(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        ledger.finish(0, TrialState.FAIL, "out of memory")
        ledger.finish(0, TrialState.COMPLETE)
        ledger.finish(0, TrialState.FAIL, "something else")
        assert (ledger.row(0).state, ledger.row(0).reason) == (TrialState.FAIL, "out of memory")

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_complete_without_a_finite_value_is_a_failure(
        self, make_spec: MakeSpec, opened: Opened, value: float
    ) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        complete(ledger, 0, 90.0, value)
        assert ledger.row(0).state is TrialState.FAIL
        assert ledger.row(0).reason == f"bad value: {value}"
        assert best_row(ledger.rows()) is None

    def test_complete_without_any_value_is_a_failure(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        ledger.finish(0, TrialState.COMPLETE)
        assert (ledger.row(0).state, ledger.row(0).reason) == (TrialState.FAIL, "bad value: None")

    def test_survives_reopening(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        complete(ledger, 0, 1.0, 2.0)
        before = ledger.row(0)
        assert opened(make_spec()).row(0) == before

    def test_has_no_reason_left_of_an_end_that_a_crash_cut_short(
        self, make_spec: MakeSpec, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        with monkeypatch.context() as patch:
            patch.setattr(RDBStorage, "set_trial_state_values", lambda *_: pytest.exit("crash"))
            with pytest.raises(pytest.exit.Exception):
                ledger.finish(0, TrialState.FAIL, "worker lost too often")
        anew = opened(make_spec())
        assert anew.unfinished() == [0]
        complete(anew, 0, 5.0)
        assert (anew.row(0).state, anew.row(0).reason) == (TrialState.COMPLETE, "")


@on_both
class TestAccount:
    ACCOUNT = Account(
        attempts=3,
        lost=1,
        halvings=1,
        counted=2,
        device_seconds=1.5,
        lost_steps=4,
        run_id="run",
        checkpoint="probe/0/checkpoints/step-00000004",
        checksum="c" * 64,
    )

    def test_of_a_trial_is_empty_at_first(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        assert ledger.row(0).account == Account()

    def test_is_held_whole_and_survives_reopening(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        ledger.note(0, Account(attempts=1))
        ledger.note(0, self.ACCOUNT)
        assert opened(make_spec()).row(0).account == self.ACCOUNT

    def test_may_be_written_after_the_end(self, make_spec: MakeSpec, opened: Opened) -> None:
        ledger = opened(make_spec())
        ledger.propose()
        complete(ledger, 0, 1.0)
        ledger.note(0, self.ACCOUNT)
        assert ledger.row(0).account == self.ACCOUNT

    def test_is_of_one_trial_of_one_sweep(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, ledger_address: str | None
    ) -> None:
        for name in ("probe", "other"):
            ledger = opened(make_spec(f"name={name}"))
            for number in (ledger.propose(), ledger.propose()):
                assert number is not None
        ledger.note(1, self.ACCOUNT)
        accounts = [
            [row.account for row in read_sweep(tmp_path, name, ledger_address).rows] for name in ("probe", "other")
        ]
        assert accounts == [[Account(), Account()], [Account(), self.ACCOUNT]]

    def test_is_not_that_of_a_deleted_sweep(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, ledger_address: str | None
    ) -> None:
        """To which SQLite gave the number that the next one gets."""
        ledger = opened(make_spec())
        ledger.propose()
        ledger.note(0, self.ACCOUNT)
        ledger.hold_baseline(replace(ledger.baseline(), state=TrialState.COMPLETE))
        ledger.close()
        with writing(tmp_path, ledger_address) as database:
            database.delete_study(database.get_study_id_from_name("probe"))
        anew = opened(make_spec())
        anew.propose()
        assert anew.row(0).account == Account()
        assert anew.baseline().state is TrialState.WAITING
        assert anew.ownership.epoch == 1


class TestOpening:
    def test_with_another_spec_is_refused_with_a_remedy(self, make_spec: MakeSpec, opened: Opened) -> None:
        opened(make_spec())
        with pytest.raises(UserError, match=r"was begun with another spec.*--set name=probe-2"):
            opened(make_spec("trainer.seed=1"))
        opened(make_spec("trainer.seed=1", "name=probe-2"))

    @on_both
    def test_twice_before_the_first_trial_adds_no_point(self, make_spec: MakeSpec, opened: Opened) -> None:
        for _ in range(2):
            ledger = opened(make_spec(FIRST, "sweep.trials=9"))
        assert [ask(ledger)["method.lambda_adv"] in (0.5, 1) for _ in range(4)] == [True, True, False, False]

    @pytest.mark.parametrize(
        "opens",
        [lambda opened, spec, path: opened(spec), lambda opened, spec, path: read_sweep(path, "probe").rows],
        ids=["open", "read"],
    )
    def test_a_file_that_is_no_database_is_an_error_in_words(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, opens: Callable[..., Any]
    ) -> None:
        ledger_file(tmp_path).write_text("this is no database, however long it goes on")
        with pytest.raises(UserError, match=r"ledger .*ledger\.db cannot be read") as caught:
            opens(opened, make_spec(), tmp_path)
        assert "\n" not in str(caught.value)

    def test_of_a_server_that_does_not_answer_is_an_error_in_words(self, make_spec: MakeSpec, tmp_path: Path) -> None:
        address = f"postgresql://someone@/advseg?host={tmp_path}"
        with pytest.raises(
            UserError, match=r"ledger postgresql://\.\.\.@/advseg cannot be read .*is the server up"
        ) as caught:
            read_sweep(tmp_path, "probe", address)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        "opens",
        [
            lambda opened, make_spec, path: opened(make_spec()),
            lambda opened, make_spec, path: opened(make_spec("name=heir", "sweep.fork=probe")),
            lambda opened, make_spec, path: read_spec(path, "probe"),
        ],
        ids=["open", "fork", "read"],
    )
    def test_that_finds_a_spec_of_another_version_says_so(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, opens: Callable[..., Any]
    ) -> None:
        opened(make_spec())
        with writing(tmp_path, None) as database:
            study = optuna.load_study(study_name="probe", storage=database)
            document = study.user_attrs["advseg.spec"]
            document["trainer"]["colour"] = "red"
            study.set_user_attr("advseg.spec", document)
        with pytest.raises(UserError) as caught:
            opens(opened, make_spec, tmp_path)
        message = str(caught.value)
        assert message.startswith(
            "sweep probe holds a spec that this version of advseg does not read (trainer.colour: "
        )
        assert message.endswith("): go on with the version that wrote it")
        assert "\n" not in message

    def test_that_is_refused_leaves_the_sweep_to_others(self, make_spec: MakeSpec, opened: Opened) -> None:
        opened(make_spec())
        with pytest.raises(UserError):
            opened(make_spec("trainer.seed=1"), owner=Owner.here())
        opened(make_spec(), owner=Owner.here())


class TestReading:
    def test_an_unknown_sweep_names_the_known_ones(self, make_spec: MakeSpec, opened: Opened, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"there is no sweep other in .*; known sweeps: none yet"):
            read_sweep(tmp_path, "other")
        assert not ledger_file(tmp_path).exists()
        opened(make_spec())
        with pytest.raises(UserError, match="known sweeps: probe"):
            read_sweep(tmp_path, "other")

    @on_both
    def test_gives_the_ledgers_rows(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, ledger_address: str | None
    ) -> None:
        ledger = opened(make_spec(FIRST))
        assert read_sweep(tmp_path, "probe", ledger_address).rows == []
        ledger.propose()
        ledger.report(0, 1, 5.0)
        assert read_sweep(tmp_path, "probe", ledger_address).rows == ledger.rows()

    @on_both
    def test_gives_the_spec_that_was_run_last(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, ledger_address: str | None
    ) -> None:
        for trials in (2, 3):
            spec = make_spec(f"sweep.trials={trials}")
            opened(spec)
        read = read_spec(tmp_path, "probe", ledger_address)
        assert read == spec.model_copy(update={"ledger": ledger_address})

    @on_both
    def test_gives_the_names_of_all_sweeps_in_the_order_of_their_beginning(
        self, make_spec: MakeSpec, opened: Opened, tmp_path: Path, ledger_address: str | None
    ) -> None:
        assert sweep_names(tmp_path, ledger_address) == []
        for name in ("zebra", "ape"):
            opened(make_spec(f"name={name}"))
        assert sweep_names(tmp_path, ledger_address) == ["zebra", "ape"]
