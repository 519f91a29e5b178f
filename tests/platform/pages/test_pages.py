"""What is printed: tables, the sweep's page, and how a command ends."""

import errno
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState
from rich.console import Console, RenderableType
from typer.testing import CliRunner

from advseg.jobs.cli.main import app
from advseg.platform.base import events
from advseg.platform.base.events import TrialUpdate
from advseg.platform.base.exits import exit_status
from advseg.platform.ledger.accounts import Account
from advseg.platform.ledger.database import open_database
from advseg.platform.ledger.opening import open_ledger
from advseg.platform.ledger.origin import Origin
from advseg.platform.ledger.reading import SweepRecord, read_sweeps
from advseg.platform.ledger.rows import BASELINE_NUMBER, Row, Verdict, best_first
from advseg.platform.pages.importance import importances
from advseg.platform.pages.sparkline import BROKEN, scale_of, sparkline
from advseg.platform.pages.sweep_page import SHOWN, print_sweep, totals_line, verdict_line
from advseg.platform.pages.sweeps_page import print_sweeps
from advseg.platform.pages.terminal import (
    console_for,
    duration,
    importance_table,
    number,
    percent,
    progress_table,
    short_names,
    states,
    trials_table,
    update_line,
    verdict_text,
)
from advseg.platform.spec.spec import Spec
from advseg.platform.tracking.identity import single_identity, sweep_identity, trial_identity
from advseg.trainers.errors import NonFiniteLossError, UserError

STATES = {"C": TrialState.COMPLETE, "P": TrialState.PRUNED, "F": TrialState.FAIL, "R": TrialState.RUNNING}


def row(
    number: int,
    state: str = "C",
    value: float | None = None,
    reason: str = "",
    *,
    params: dict[str, float] | None = None,
    account: Account | None = None,
) -> Row:
    return Row(
        number=number,
        params={"method.lambda_adv": 0.012345} if params is None else params,
        state=STATES[state],
        reason=reason,
        curve={} if value is None else {8: value},
        account=account or Account(),
    )


def printed(table: RenderableType) -> list[str]:
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return [" ".join(line.split()) for line in capture.get().splitlines()]


def trials(rows: Sequence[Row]) -> list[str]:
    """The lines of a table of trials below its heads."""
    lines = printed(trials_table("probe", rows, scale_of(row.curve for row in rows)))
    assert lines[0] == "sweep probe"
    return lines[3:]


def run_sweep(storage: Path, spec: Spec, *values: float | None) -> None:
    """Begin a sweep: a trial for each value, which is complete unless it is None."""
    ledger = open_ledger(storage, spec, Origin(dataset="d", code="c"))
    for value in values:
        trial = ledger.propose()
        assert trial is not None
        if value is not None:
            ledger.report(trial, 8, value)
            ledger.finish(trial, TrialState.COMPLETE)
    ledger.close()


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
    def test_is_one_sentence(self) -> None:
        best = row(3, value=51.25)
        none = verdict_line(Verdict(best=None, baseline=50.0))
        assert none == "no trial is complete; the supervised baseline has mIoU 50.00"
        assert verdict_line(Verdict(best=best, baseline=None)) == "best trial 3: mIoU 51.25; no complete baseline"
        beaten = "best trial 3 with mIoU 51.25 beats the supervised baseline with 50.00 (+1.25)"
        assert verdict_line(Verdict(best=best, baseline=50.0)) == beaten
        lost = verdict_line(Verdict(best=best, baseline=52.0))
        assert "does not beat the supervised baseline with 52.00 (-0.75)" in lost

    def told(self, **given: Any) -> list[str]:
        none = {"best": None, "best_miou": None, "baseline_miou": None, "gate": None, "registered": None}
        return verdict_text(events.Verdict(**{**none, "won": False, "url": "http://x", **given})).splitlines()

    def test_says_that_a_winner_was_not_to_be_registered(self) -> None:
        told = self.told(best="a/0", best_miou=51.0, baseline_miou=50.0, won=True)
        assert "model     none registered: the spec names no sweep.register_as" in told

    def test_names_what_there_is_not(self) -> None:
        assert self.told() == [
            "best      no trial is complete  mIoU -",
            "baseline  mIoU -",
            "model     none registered: no trial is complete",
            "MLflow    http://x",
        ]

    def test_says_that_no_trial_beat_the_baseline(self) -> None:
        told = self.told(best="a/0", best_miou=49, baseline_miou=50)
        assert told[2:4] == [
            "model     none registered: no trial beat the baseline",
            "          `advseg models pull a/0` pulls that of the best",
        ]

    def test_says_what_the_gate_said(self) -> None:
        told = self.told(best="a/0", best_miou=51, baseline_miou=50, won=True, gate="kept: no trial is ahead")
        assert told[2:5] == [
            "gate      kept: no trial is ahead",
            "model     none registered: no trial is ahead on fresh seeds",
            "          `advseg models pull a/0` pulls that of the best",
        ]


class TestTables:
    def test_show_number_values_state_and_why_a_trial_was_stopped(self) -> None:
        rows = [
            row(7, "P", 51.25, "not among the best at step 8", account=Account(attempts=1, device_seconds=75.0)),
            row(8, "F", 51.25, "diverged"),
        ]
        assert trials(rows) == [
            "7 0.01235 8 51.25 51.25@8 ▁ 0:01:15 PRUNED not among the best at step 8",
            "8 0.01235 8 51.25 51.25@8 ▁ 0 s FAIL diverged",
        ]

    def test_show_attempts_if_a_trial_had_more_than_one(self) -> None:
        once, twice = Account(attempts=1), Account(attempts=2)
        assert trials([row(0, value=50.0, account=once)]) == ["0 0.01235 8 50.00 50.00@8 ▁ 0 s COMPLETE"]
        assert trials([row(0, value=50.0, account=once), row(1, value=50.0, account=twice)]) == [
            "0 0.01235 8 50.00 50.00@8 ▁ 1 0 s COMPLETE",
            "1 0.01235 8 50.00 50.00@8 ▁ 2 0 s COMPLETE",
        ]

    def test_show_how_fast_trials_went_once_that_is_known(self) -> None:
        measured = Account(attempts=1, images_per_second=31.416)
        assert trials([row(0, value=50.0, account=measured), row(1, value=50.0)]) == [
            "0 0.01235 8 50.00 50.00@8 ▁ 31.4 0 s COMPLETE",
            "1 0.01235 8 50.00 50.00@8 ▁ 0 s COMPLETE",
        ]

    def test_cut_no_word_off_in_a_narrow_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "30")
        rows = [row(0, "F", 50.0, "out of memory")]
        table = trials_table("probe", rows, scale_of(row.curve for row in rows))
        console = console_for(table)
        with console.capture() as capture:
            console.print(table)
        assert {"lambda_", "adv", "0.01235", "50.00", "FAIL…"} <= set(capture.get().split())

    def test_leave_out_what_is_not_known_yet(self) -> None:
        assert (
            printed(progress_table("a", [TrialUpdate(key="a/0", state="RUNNING", steps=8)]))[2] == "0 0/8 - - RUNNING"
        )

    @pytest.mark.parametrize("reason", ["[/] closes nothing", "[bold] is lost", "list[/tmp/x] has [red]"])
    def test_show_a_reasons_brackets_as_they_are(self, reason: str) -> None:
        update = TrialUpdate(key="a/0", state="FAIL", steps=8, reason=reason)
        assert f"FAIL {reason}" in printed(progress_table("stage", [update]))[2]
        assert f"FAIL {reason}" in trials([row(0, "F", reason=reason)])[0]
        assert update_line(update).endswith(reason)

    def test_show_the_best_report_beside_the_last(self) -> None:
        fell = replace(row(0, value=20.0), curve={4: 63.75, 6: 63.75, 8: 20.0, 9: math.nan})
        assert trials([replace(fell, curve={4: 63.75, 6: 63.75, 8: 20.0})])[0].startswith("0 0.01235 8 20.00 63.75@4 ")
        assert fell.best == (4, 63.75)
        assert replace(fell, curve={9: math.nan}).best is None
        update = TrialUpdate(key="a/0", state="RUNNING", step=8, steps=9, miou=20.0, best_step=4, best_miou=63.75)
        assert printed(progress_table("a", [update]))[2] == "0 8/9 20.00 63.75@4 RUNNING"

    def test_show_a_state_that_has_no_colour(self) -> None:
        stopped = TrialUpdate(key="a/0", state="STOPPED", steps=8, reason="stopped from outside")
        assert "STOPPED stopped from outside" in printed(progress_table("stage", [stopped]))[2]

    def test_have_short_names_and_few_digits(self) -> None:
        assert short_names(["b.lambda_adv", "a.x.lr", "a.y.lr"]) == {
            "a.x.lr": "x.lr",
            "a.y.lr": "y.lr",
            "b.lambda_adv": "lambda_adv",
        }
        assert short_names(["lr", "a.lr"]) == {"a.lr": "a.lr", "lr": "lr"}
        assert [number(value) for value in (None, 0.0123456, 1234567.0, 1234567)] == [
            "",
            "0.01235",
            "1.235e+06",
            "1234567",
        ]
        assert [number(True), number("frozen")] == ["true", "frozen"]
        assert [percent(None), percent(0.0), percent(51.25)] == ["-", "0.00", "51.25"]

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0.0, "0 s"), (59.4, "59 s"), (59.6, "0:01:00"), (3661.0, "1:01:01"), (100 * 3600.0, "100:00:00")],
    )
    def test_have_durations_of_any_length(self, seconds: float, text: str) -> None:
        assert duration(seconds) == text


class TestCurves:
    def test_rise_from_the_lowest_block_to_the_highest(self) -> None:
        curve = {step: float(step) for step in range(8)}
        assert sparkline(curve, scale_of([curve])) == "▁▂▃▄▅▆▇█"

    def test_share_the_scale_of_their_sweep(self) -> None:
        low, high, short = {1: 0.0, 2: 10.0, 3: 20.0}, {1: 60.0, 2: 70.0, 3: 80.0}, {1: 40.0}
        scale = scale_of([low, high, short])
        assert [sparkline(curve, scale) for curve in (low, high, short)] == ["▁▂▃", "▇██", "▅"]

    def test_leave_a_gap_where_a_trial_has_no_value(self) -> None:
        curve = {1: 0.0, 3: 8.0}
        assert sparkline(curve, scale_of([curve, {2: 4.0}])) == "▁ █"

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_mark_what_is_not_finite(self, bad: float) -> None:
        curve = {1: 0.0, 2: bad, 3: 8.0}
        assert sparkline(curve, scale_of([curve])) == f"▁{BROKEN}█"

    def test_are_no_wider_than_asked_and_end_with_the_newest_value(self) -> None:
        curve = {10 * step: float(step) for step in range(1000)} | {9990: 0.0}
        line = sparkline(curve, scale_of([curve], width=16))
        assert len(line) == 16
        assert (line[0], line[-2:]) == ("▁", "█▁")

    def test_hide_nothing_that_is_not_finite(self) -> None:
        curve = dict.fromkeys(range(100), 1.0) | {50: math.nan}
        assert sparkline(curve, scale_of([curve], width=4)) == f"▁▁{BROKEN}▁"

    def test_of_nothing_and_of_one_value(self) -> None:
        assert sparkline({}, scale_of([])) == ""
        assert sparkline({}, scale_of([{1: math.nan}])) == ""
        assert sparkline({5: 50.0}, scale_of([{5: 50.0}])) == "▁"


class TestImportance:
    @staticmethod
    def rows(value: Callable[[float, float], float], count: int = 40) -> list[Row]:
        draw = random.Random(0).random
        points = [{"trainer.a": draw(), "trainer.b": draw()} for _ in range(count)]
        return [row(i, value=value(*p.values()), params=p) for i, p in enumerate(points)]

    @pytest.mark.parametrize("decides", ["trainer.a", "trainer.b"])
    def test_is_almost_all_of_the_one_that_decides(self, decides: str) -> None:
        shares = importances(self.rows(lambda a, b: 100 * (a if decides == "trainer.a" else b)))
        assert next(iter(shares)) == decides
        assert shares[decides] > 0.95
        assert sum(shares.values()) == pytest.approx(1)

    def test_is_the_same_each_time(self) -> None:
        rows = self.rows(lambda a, b: 50 + 10 * a * b)
        assert importances(rows) == importances(rows)

    def test_counts_complete_trials_of_finite_value_alone(self) -> None:
        rows = self.rows(lambda a, _: 100 * a)
        others = self.rows(lambda _, b: 100 * b)
        strange = [
            row(100 + i, state, value, params=other.params)
            for i, (other, state) in enumerate(zip(others, "PFRC" * 10, strict=True))
            for value in [math.nan if state == "C" else other.value]
        ]
        assert importances([*rows, *strange]) == importances(rows)

    def test_is_known_from_four_trials_on(self) -> None:
        rows = self.rows(lambda a, _: 100 * a, 4)
        assert importances(rows[:3]) == {}
        assert importances(rows).keys() == {"trainer.a", "trainer.b"}

    def test_is_nobodys_if_nothing_varies(self) -> None:
        assert importances(self.rows(lambda a, b: 50.0)) == {}
        assert importances([row(i, value=float(i)) for i in range(9)]) == {}
        assert importances([]) == {}

    def test_leaves_out_a_parameter_that_does_not_vary(self) -> None:
        rows = [row(i, value=float(i), params={"a": float(i), "b": 0.5}) for i in range(9)]
        assert importances(rows) == {"a": 1.0}

    def test_is_drawn_as_bars(self) -> None:
        lines = printed(importance_table({"method.lambda_semi": 0.75, "method.threshold": 0.25}))
        assert lines == ["parameter importance", f"lambda_semi 75% {'█' * 30}", f"threshold 25% {'█' * 10}"]


class TestTotals:
    def test_count_states_seconds_and_lost_steps(self) -> None:
        rows = [
            row(0, account=Account(device_seconds=3000.0, lost_steps=7)),
            row(1, "P", account=Account(device_seconds=661.0, lost_steps=5)),
            row(2),
            row(3, "R"),
        ]
        assert states(rows) == "1 RUNNING, 2 COMPLETE, 1 PRUNED"
        spent = Account(device_seconds=59.0, lost_steps=1)
        baseline = row(BASELINE_NUMBER, account=spent)
        assert totals_line(rows, baseline, []) == (
            f"trials: {states(rows)}; device time: 1:01:01 and 59 s of the baseline; lost steps: 13"
        )
        assert totals_line(rows, baseline, [row(-2, account=Account(device_seconds=70.0, lost_steps=2))]) == (
            f"trials: {states(rows)}; device time: 1:01:01, 59 s of the baseline and 0:01:10 on fresh seeds; "
            "lost steps: 15"
        )

    def test_of_no_trial(self) -> None:
        nothing = "trials: none; device time: 0 s and 0 s of the baseline; lost steps: 0"
        assert totals_line([], row(BASELINE_NUMBER), []) == nothing


class TestSweepPage:
    def test_shows_trials_verdict_importance_and_totals(
        self, make_spec: Callable[..., Spec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_sweep(tmp_path, make_spec(), 42.0, 43.0, 44.0, 45.0)
        print_sweep(tmp_path, "probe")
        out = capsys.readouterr().out
        assert out.startswith("sweep probe")
        assert "best trial 3: mIoU 45.00; no complete baseline\nparameter importance" in out
        assert out.endswith("trials: 4 COMPLETE; device time: 0 s and 0 s of the baseline; lost steps: 0\n")

    def test_of_a_sweep_without_trials(
        self, make_spec: Callable[..., Spec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_sweep(tmp_path, make_spec())
        print_sweep(tmp_path, "probe")
        out = capsys.readouterr().out
        assert "no trial is complete" in out
        assert "parameter importance: known from 4 complete trials on" in out

    def test_shows_the_best_and_says_how_many_more_there_are(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = [row(i, value=float(i)) for i in range(SHOWN + 7)]
        record = SweepRecord(
            name="probe", rows=rows, baseline=row(BASELINE_NUMBER, "R"), spec=None, dataset=None, is_owned=True
        )
        monkeypatch.setattr("advseg.platform.pages.sweep_page.read_sweep", lambda *_: record)

        def numbers(*, whole: bool) -> tuple[list[int], str]:
            print_sweep(tmp_path, "probe", whole=whole)
            out = capsys.readouterr().out
            return [int(line.split()[0]) for line in out.splitlines() if line.strip().endswith("COMPLETE")], out

        cut, out = numbers(whole=False)
        assert cut == list(range(SHOWN + 6, 6, -1))
        assert "\nand 7 more trials: --all prints them too\n" in out
        assert f"best trial {SHOWN + 6}" in out
        assert f"trials: {SHOWN + 7} COMPLETE" in out
        everything, out = numbers(whole=True)
        assert everything == list(range(SHOWN + 6, -1, -1))
        assert "more trials" not in out


class TestSweepsPage:
    @staticmethod
    def lines(storage: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
        print_sweeps(read_sweeps(storage), str(storage), None)
        lines = capsys.readouterr().out.splitlines()
        return [" ".join(line.split()) for line in lines]

    def test_is_a_line_for_each_sweep(
        self, make_spec: Callable[..., Spec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_sweep(tmp_path, make_spec("name=second", "sweep.trials=3"), 41.0, 42.5, None)
        run_sweep(tmp_path, make_spec("name=first"))
        assert self.lines(tmp_path, capsys)[1:] == [
            "second 2/3 1 42.50 42.50@8 1 STOPPED, 2 COMPLETE",
            "first 0/5 - - - none",
        ]

    def test_does_not_know_what_an_older_version_had_planned(
        self, make_spec: Callable[..., Spec], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        study = open_database(tmp_path, None).create_new_study([StudyDirection.MAXIMIZE], "old")
        assert study
        assert self.lines(tmp_path, capsys)[1] == "old 0/? - - - none"

    def test_of_an_empty_ledger_names_the_remedy(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        begun = "yet: `advseg submit SPEC` begins one"
        elsewhere = "a team's ledger is named by --ledger or ADVSEG_LEDGER"
        assert self.lines(tmp_path, capsys) == [f"no sweep in {tmp_path} {begun}; {elsewhere}"]
        print_sweeps([], str(tmp_path), "postgresql://me@host/sweeps")
        assert capsys.readouterr().out == f"no sweep in postgresql://...@host/sweeps {begun}\n"
        assert not list(tmp_path.iterdir())


class TestLedgerOption:
    @pytest.mark.parametrize("verb", [["sweep", "show", "probe"], ["sweep", "list"]], ids=" ".join)
    @pytest.mark.parametrize(
        ("address", "rule"),
        [
            ("runs/ledger.db", "must be postgresql://user@host/database, but is runs/ledger.db"),
            ("", "must be postgresql://user@host/database"),
            ("postgresql://me:secret@host/database", "holds a password"),
        ],
    )
    def test_must_be_an_address(self, verb: list[str], address: str, rule: str) -> None:
        error = CliRunner().invoke(app, [*verb, "--ledger", address]).exception
        assert isinstance(error, UserError)
        assert str(error).startswith("--ledger ")
        assert rule in str(error)
        assert "secret" not in str(error)

    @pytest.mark.parametrize(
        ("verb", "page"),
        [
            (["sweep", "show", "probe"], "pages.sweep_page.print_sweep"),
            (["sweep", "list"], "ledger.reading.read_sweeps"),
        ],
        ids=str,
    )
    def test_is_passed_on(self, verb: list[str], page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[object] = []
        monkeypatch.setattr(f"advseg.platform.{page}", lambda *arguments, **_: asked.extend(arguments) or [])
        for ledger in ([], ["--ledger", "postgresql://me@host/database"]):
            CliRunner().invoke(app, [*verb, "--storage", str(tmp_path), *ledger], catch_exceptions=False)
        assert [asked[len(asked) // 2 - 1], asked[-1]] == [None, "postgresql://me@host/database"]
        assert tmp_path in asked


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
        assert self.ended(capsys, lambda: tmp_path.write_text("a")) == (
            2,
            f"error: {tmp_path}: Is a directory: name a file in it\n",
        )

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EMFILE, errno.ENAMETOOLONG, errno.EACCES])
    def test_of_what_a_disk_refuses_is_2_and_a_line_though_no_file_be_named(
        self, number: int, capsys: pytest.CaptureFixture[str]
    ) -> None:
        status, said = self.ended(capsys, self.raising(OSError(number, os.strerror(number))))
        assert (status, said.count("\n")) == (2, 1)
        assert said.startswith(f"error: {os.strerror(number)}: ")

    def test_names_the_file_that_was_to_be_replaced(self, capsys: pytest.CaptureFixture[str]) -> None:
        error = OSError(errno.EISDIR, "Is a directory", ".page.html.17", None, "page.html")
        assert self.ended(capsys, self.raising(error))[1] == "error: page.html: Is a directory: name a file in it\n"

    def test_bounds_the_lines_of_a_message(self, capsys: pytest.CaptureFixture[str]) -> None:
        _, said = self.ended(capsys, self.raising(UserError("a" * 100_000 + "\nb")))
        assert len(said) < 5000
        assert said.endswith("…\nb\n")

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
        assert {key.partition(".")[0] for key in params} == {"dataset", "model", "method", "trainer"}
        # MLflow takes no more in one request.
        assert len(params) <= 100

    def test_are_named_by_their_keys(self, make_spec: Callable[..., Spec]) -> None:
        document = make_spec().model_dump(mode="json")
        assert (sweep_identity(document).key, sweep_identity(document).parent) == ("probe", None)
        assert (trial_identity(document, 3).key, trial_identity(document, 3).parent) == ("probe/3", "probe")
        assert trial_identity(document, "baseline").key == "probe/baseline"
        assert (single_identity(document).key, single_identity(document).parent) == ("probe/single", None)
        assert sweep_identity(document).experiment == "probe"
