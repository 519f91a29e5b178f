"""What is printed: tables, the sweep's page, and how a command ends."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table

from advseg.platform.events import TrialUpdate, Verdict
from advseg.platform.exits import exit_status
from advseg.platform.ledger import Row, beats, open_ledger
from advseg.platform.runs import single_identity, sweep_identity, trial_identity
from advseg.platform.spec import Spec
from advseg.platform.sweep_page import baseline_miou, best_first, print_sweep, verdict_line
from advseg.platform.tables import number, percent, progress_table, short, trials_table, update_line, verdict_text
from advseg.trainers.errors import NonFiniteLossError, UserError

STATES = {"C": TrialState.COMPLETE, "P": TrialState.PRUNED, "F": TrialState.FAIL, "R": TrialState.RUNNING}


def row(number: int, state: str = "C", value: float | None = None, reason: str = "") -> Row:
    params = {"trainer.lambda_adv": 0.012345}
    return Row(
        number=number, params=params, state=STATES[state], reason=reason, curve={} if value is None else {8: value}
    )


def printed(table: Table) -> list[str]:
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return [" ".join(line.split()) for line in capture.get().splitlines()]


class TestOrder:
    def test_is_complete_trials_by_value_then_the_others_by_theirs(self) -> None:
        rows = [
            row(0, "P", 90.0),
            row(1, value=50.0),
            row(2, "F"),
            row(3, value=60.0),
            row(4, value=60.0),
            row(5, "R", 95.0),
        ]
        assert [r.number for r in best_first(rows)] == [3, 4, 1, 5, 0, 2]

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_ends_with_values_that_are_not_finite(self, bad: float) -> None:
        rows = [row(0, "F", bad), row(1, "P", 10.0), row(2, "F", bad), row(3, "P", 20.0)]
        assert [r.number for r in best_first(rows)] == [3, 1, 0, 2]


class TestVerdict:
    @pytest.mark.parametrize(
        ("best", "baseline", "won"),
        [(51.0, 50.0, True), (50.0, 50.0, False), (None, 50.0, False), (51.0, None, False), (math.nan, 50.0, False)],
    )
    def test_is_won_by_the_greater_value_alone(self, best: float | None, baseline: float | None, won: bool) -> None:
        assert beats(best, baseline) is won

    def test_is_one_sentence(self) -> None:
        best = row(3, value=51.25)
        assert verdict_line(None, 50.0) == "no trial is complete"
        assert verdict_line(best, None) == "best trial 3: mIoU 51.2; no baseline yet"
        beaten = "best trial 3 with mIoU 51.2 beats the supervised baseline with 50.0 (+1.2)"
        assert verdict_line(best, 50.0) == beaten
        assert "does not beat the supervised baseline with 52.0 (-0.8)" in verdict_line(best, 52.0)

    def test_says_that_a_winner_was_not_to_be_registered(self) -> None:
        won = Verdict(best="a/0", best_miou=51.0, baseline_miou=50.0, registered=None, url="http://x")
        assert "none registered: the spec names no sweep.register_as" in verdict_text(won)

    def test_names_what_there_is_not(self) -> None:
        none = Verdict(best=None, best_miou=None, baseline_miou=None, registered=None, url="http://x")
        assert verdict_text(none).splitlines() == [
            "best      no trial is complete  mIoU -",
            "baseline  mIoU -",
            "model     none registered: no trial beat the baseline",
            "MLflow    http://x",
        ]


class TestTables:
    def test_show_number_values_state_and_why_a_trial_failed(self) -> None:
        rows = [row(7, "P", 51.25, "not among the best at step 8"), row(8, "F", 51.25, "diverged")]
        lines = printed(trials_table("probe", rows))
        assert lines[0] == "sweep probe"
        assert "7 │ 0.0123 │ 8 │ 51.2 │ PRUNED │" in lines[4]
        assert "8 │ 0.0123 │ 8 │ 51.2 │ FAIL diverged │" in lines[5]

    def test_leave_out_what_is_not_known_yet(self) -> None:
        assert (
            "0/8 │ - │ RUNNING" in printed(progress_table("a", [TrialUpdate(key="a/0", state="RUNNING", steps=8)]))[4]
        )

    @pytest.mark.parametrize("reason", ["[/] closes nothing", "[bold] is lost", "list[/tmp/x] has [red]"])
    def test_show_a_reasons_brackets_as_they_are(self, reason: str) -> None:
        update = TrialUpdate(key="a/0", state="FAIL", steps=8, reason=reason)
        assert f"FAIL {reason}" in printed(progress_table("stage", [update]))[4]
        assert f"FAIL {reason}" in printed(trials_table("a", [row(0, "F", reason=reason)]))[4]
        assert update_line(update).endswith(reason)

    def test_show_a_state_that_has_no_colour(self) -> None:
        stopped = TrialUpdate(key="a/0", state="STOPPED", steps=8, reason="stopped from outside")
        assert "STOPPED stopped from outside" in printed(progress_table("stage", [stopped]))[4]

    def test_have_short_names_and_few_digits(self) -> None:
        assert short("trainer.lambda_adv") == "lambda_adv"
        assert [number(None), number(0.0123456), number(1234567)] == ["", "0.0123", "1.23e+06"]
        assert [percent(None), percent(0.0), percent(51.25)] == ["-", "0.0", "51.2"]


class TestSweepPage:
    def test_shows_trials_and_verdict(
        self, make_spec: Callable[..., Spec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ledger = open_ledger(tmp_path, make_spec())
        ledger.propose()
        ledger.report(0, 8, 42.0)
        ledger.finish(0, TrialState.COMPLETE)
        print_sweep(tmp_path, "probe")
        out = capsys.readouterr().out
        assert "sweep probe" in out
        assert "best trial 0: mIoU 42.0; no baseline yet" in out
        assert baseline_miou(tmp_path, "probe") is None

    def test_of_a_sweep_without_trials(
        self, make_spec: Callable[..., Spec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        open_ledger(tmp_path, make_spec())
        print_sweep(tmp_path, "probe")
        assert "no trial is complete" in capsys.readouterr().out


class TestExit:
    @staticmethod
    def ended(capsys: pytest.CaptureFixture[str], work: Callable[[], object]) -> tuple[int, str]:
        status = exit_status(work)
        return status, capsys.readouterr().err

    @staticmethod
    def raising(error: BaseException) -> Callable[[], None]:
        def work() -> None:
            raise error

        return work

    def test_of_what_is_done_is_0(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.ended(capsys, lambda: 3) == (0, "")

    def test_of_a_users_mistake_is_2_and_a_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.ended(capsys, self.raising(UserError("x is 3"))) == (2, "error: x is 3\n")

    def test_of_a_diverged_run_is_1_and_a_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.ended(capsys, self.raising(NonFiniteLossError("ce at 3"))) == (1, "error: ce at 3\n")

    def test_of_an_interrupt_is_130(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.ended(capsys, self.raising(KeyboardInterrupt())) == (130, "interrupted\n")

    def test_of_a_file_that_cannot_be_written_is_2_and_a_line(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        assert self.ended(capsys, lambda: tmp_path.write_text("a")) == (2, f"error: {tmp_path}: Is a directory\n")

    @pytest.mark.parametrize("error", [ValueError("a bug"), OSError("without a file"), AssertionError()])
    def test_of_a_bug_is_its_traceback(self, error: Exception) -> None:
        with pytest.raises(type(error)):
            exit_status(self.raising(error))


class TestRuns:
    def test_have_flat_params_of_what_determines_a_training(self, make_spec: Callable[..., Spec]) -> None:
        params = trial_identity(make_spec().model_dump(mode="json"), 3).params
        assert params["trainer.segmenter_optimizer.lr"] == 0.001
        assert params["trainer.augmentation.crop"] == [16, 16]
        assert params["dataset.classes"] == ["background", "thing"]
        assert not [key for key, value in params.items() if isinstance(value, dict)]
        assert {key.partition(".")[0] for key in params} == {"dataset", "model", "discriminator", "trainer"}
        # MLflow takes no more in one request.
        assert len(params) <= 100

    def test_are_named_by_their_keys(self, make_spec: Callable[..., Spec]) -> None:
        document = make_spec().model_dump(mode="json")
        assert (sweep_identity(document).key, sweep_identity(document).parent) == ("probe", None)
        assert (trial_identity(document, 3).key, trial_identity(document, 3).parent) == ("probe/3", "probe")
        assert trial_identity(document, "baseline").key == "probe/baseline"
        assert (single_identity(document).key, single_identity(document).parent) == ("probe/0", None)
        assert sweep_identity(document).experiment == "probe"
