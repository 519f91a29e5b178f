"""No row of a table takes two lines in a terminal of 80 columns."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState
from rich.console import Console, RenderableType
from rich.text import Text

from advseg.platform.base.events import TrialUpdate
from advseg.platform.ledger.accounts import Account
from advseg.platform.ledger.reading import SweepRecord
from advseg.platform.ledger.rows import BASELINE_NUMBER, Row
from advseg.platform.pages.jobs_page import listed_jobs, print_jobs
from advseg.platform.pages.shortened import Shortened
from advseg.platform.pages.sweep_page import print_sweep
from advseg.platform.pages.sweeps_page import print_sweeps
from advseg.platform.pages.terminal import folded, progress_table

WIDTH = 80
PARAMS = {"method.lambda_adv": 1.23456e-05, "method.lambda_semi": 0.123456, "method.threshold": 0.2}
PRUNED, BROKEN = "not among the best at step 12300", "the loss l_ce became NaN at step 300 " + "in /a/long/path" * 9


def record(rows: list[Row], name: str = "probe") -> SweepRecord:
    """What the ledger says of a sweep of these trials."""
    baseline = Row(number=BASELINE_NUMBER, params={}, state=TrialState.COMPLETE, reason="", curve={8: 40.0})
    return SweepRecord(name=name, rows=rows, baseline=baseline, spec=None, dataset=None, is_owned=True)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


def row(number: int, state: TrialState, reason: str = "") -> Row:
    return Row(
        number=number,
        params=PARAMS,
        state=state,
        reason=reason,
        curve={step: 50.0 + step / 1e4 for step in range(100, 12_400, 100)},
        account=Account(attempts=2, device_seconds=30_000.0),
    )


ROWS = [row(107, TrialState.COMPLETE), row(108, TrialState.PRUNED, PRUNED), row(109, TrialState.FAIL, BROKEN)]


def rendered(table: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=WIDTH)
    with console.capture() as capture:
        console.print(table)
    return capture.get().splitlines()


def of_trials(lines: list[str]) -> list[str]:
    return [line for line in lines if line.split()[:1] and line.split()[0] in ("107", "108", "109")]


def test_a_trial_of_a_sweep_has_one_line_though_it_was_pruned_or_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("advseg.platform.pages.sweep_page.read_sweep", lambda *_: record(ROWS))

    print_sweep(tmp_path, "probe")

    lines = capsys.readouterr().out.splitlines()
    table = lines[: lines.index(next(line for line in lines if line.startswith("best trial")))]
    assert len(table) == 3 + len(ROWS)
    assert all(len(line.rstrip()) <= WIDTH for line in table)
    complete, pruned, broken = of_trials(lines)
    assert complete.rstrip().endswith("COMPLETE")
    assert "PRUNED" in pruned
    assert "FAIL" in broken
    assert pruned.rstrip().endswith("…")


def test_all_says_the_whole_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("advseg.platform.pages.sweep_page.read_sweep", lambda *_: record(ROWS))

    print_sweep(tmp_path, "probe", whole=True)

    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("trial 1")] == [
        f"trial 108: PRUNED, {PRUNED}",
        f"trial 109: FAIL, {BROKEN}",
    ]


def test_a_trial_of_a_followed_job_has_one_line() -> None:
    updates = [
        TrialUpdate(
            key=f"a-sweep-with-a-long-name/{number}",
            state=state,
            params=PARAMS,
            step=12_300,
            steps=20_000,
            miou=51.2,
            reason=reason,
        )
        for number, state, reason in ((107, "RUNNING", ""), (108, "PRUNED", PRUNED), (109, "FAIL", BROKEN))
    ]
    lines = rendered(progress_table("10 trials, 2 at a time", updates))
    assert len(lines) == 3 + len(updates)
    assert all(len(line.rstrip()) <= WIDTH for line in lines)
    assert ["RUNNING" in lines[3], "PRUNED" in lines[4], "FAIL" in lines[5]] == [True] * 3


def test_a_sweep_of_a_list_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(n, state) for n, state in enumerate([*TrialState][:3] * 40)]
    print_sweeps([record(rows, "a-sweep-with-a-rather-long-name")], "runs", None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert len(lines[1].rstrip()) <= WIDTH


def test_a_job_of_a_list_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    state: Any = SimpleNamespace(value="SUCCEEDED")
    job: Any = SimpleNamespace(
        submission_id="shapes-demo-1",
        status=state,
        message="words " * 40,
        metadata=None,
        start_time=1,
        end_time=None,
    )
    print_jobs(listed_jobs([job]))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].rstrip().endswith("…")


@pytest.mark.parametrize(
    ("name", "heading"),
    [
        ("threshold", "threshold"),
        ("lambda_adv", "lambda_\nadv"),
        ("lambda_semi_adv", "lambda_\nsemi_adv"),
        ("a_b_c", "a_b_c"),
        ("_x", "_x"),
    ],
)
def test_a_heading_is_parted_after_underscores(name: str, heading: str) -> None:
    assert folded(name) == heading


def test_what_has_room_is_not_shortened() -> None:
    assert rendered(Shortened(Text("[x] words"))) == ["[x] words"]
