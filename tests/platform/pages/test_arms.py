"""What is said of the arms of a sweep, wherever its trials are shown."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from advseg.platform.base.events import TrialUpdate, Verdict
from advseg.platform.gate.verdict import judge
from advseg.platform.ledger.reading import SweepRecord
from advseg.platform.ledger.rows import BASELINE_NUMBER, Row
from advseg.platform.pages import sweep_page, sweep_report
from advseg.platform.pages.arms import arm_lines, arms_of
from advseg.platform.pages.sweep_page import print_sweep, sweep_json
from advseg.platform.pages.sweep_report import report_of
from advseg.platform.pages.terminal import update_line, verdict_text
from advseg.platform.spec.confirm import Confirm
from advseg.platform.storage.local_store import LocalStore

POINTS = {"hung": "method.threshold", "mean-teacher": "method.ema_decay", "plain": "trainer.segmenter_optimizer.lr"}
GATE = judge(
    Confirm(candidates=1, seeds=6),
    {0: dict.fromkeys(range(6), 55.0), 1: {seed: 57.0 + seed / 10 for seed in range(6)}},
    {"the supervised baseline": dict.fromkeys(range(6), 50.0)},
)


def row(number: int, value: float) -> Row:
    """A complete trial; arms take turns."""
    arm, key = list(POINTS.items())[number % 3]
    return Row(
        number=number, arm=arm, params={key: number / 10}, state=TrialState.COMPLETE, reason="", curve={8: value}
    )


@pytest.fixture
def record() -> SweepRecord:
    """Of three arms with four complete trials each, of which two were confirmed."""
    rows = [row(number, 50.0 + number) for number in range(12)]
    baseline = replace(row(0, 40.0), number=BASELINE_NUMBER, arm=None, params={}, beside="baseline")
    return SweepRecord(
        name="probe", rows=rows, baseline=baseline, spec=None, dataset=None, is_owned=False, gate=GATE.to_json()
    )


def test_arms_are_told_best_first_with_intervals(record: SweepRecord) -> None:
    assert arm_lines(arms_of(record.rows, record.gate)) == [
        "1. mean-teacher: mIoU 57.25 on 6 fresh seeds by trial 1, +7.25 [+7.10, +7.40] to the supervised baseline",
        "2. hung: mIoU 55.00 on 6 fresh seeds by trial 0, +5.00 [+5.00, +5.00] to the supervised baseline, "
        "-2.25 [-2.40, -2.10] to mean-teacher",
        "3. plain: best of 4 trials is 11 with mIoU 61.00, not confirmed",
    ]
    assert [arm.name for arm in arms_of(record.rows, None)] == ["plain", "mean-teacher", "hung"]
    assert arms_of([replace(each, arm=None) for each in record.rows], None) == []


def test_an_arm_of_which_no_trial_is_complete_says_so() -> None:
    broken = replace(row(0, 1.0), state=TrialState.FAIL)
    assert arm_lines(arms_of([broken], None)) == ["1. hung: none of 1 trials is complete"]


def test_sweep_show_has_a_column_of_arms_and_what_matters_in_each(
    record: SweepRecord, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sweep_page, "read_sweep", lambda *_: record)
    print_sweep(Path(), "probe")
    printed = capsys.readouterr().out
    assert [line.split()[:2] for line in printed.splitlines() if "COMPLETE" in line][:2] == [
        ["11", "plain"],
        ["10", "mean-teacher"],
    ]
    assert "1. mean-teacher: mIoU 57.25 on 6 fresh seeds" in printed
    assert printed.count("parameter importance in arm ") == 3


def test_json_has_arms_and_the_arm_of_each_trial(record: SweepRecord) -> None:
    found: dict[str, Any] = sweep_json(record)
    assert (found["trials"][0]["arm"], found["importance"]) == ("plain", {})
    first, second, third = found["arms"]
    assert (first["name"], first["trials"], first["best_trial"], third["confirmed"]) == ("mean-teacher", 4, 10, None)
    assert first["importance"] == {"method.ema_decay": 1.0}
    assert (second["confirmed"]["trial"], second["confirmed"]["seeds"]) == (0, 6)
    against = second["confirmed"]["differences"][1]
    assert (against["to"], against["mean"], against["seeds"]) == ("mean-teacher", pytest.approx(-2.25), 6)


def test_the_report_has_a_table_of_arms_and_plots_of_each_space(
    record: SweepRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sweep_report, "read_sweep", lambda *_: record)
    report = report_of(LocalStore(tmp_path), "probe", None)
    assert ">Arms<" in report
    assert all(f'id="slices-{arm}"' in report for arm in POINTS)
    assert "-2.25 [-2.40, -2.10]" in report


def test_who_follows_is_told_the_arm_of_a_trial_and_how_arms_ended(record: SweepRecord) -> None:
    update = TrialUpdate(key="probe/1", arm="mean-teacher", state="RUNNING", steps=8)
    assert "mean-teacher" in update_line(update)
    verdict = Verdict(
        best=None,
        best_miou=None,
        baseline_miou=None,
        won=False,
        gate=None,
        arms=arm_lines(arms_of(record.rows, record.gate)),
        registered=None,
        url="",
    )
    lines = verdict_text(verdict).splitlines()
    assert [line[:12] for line in lines[2:5]] == ["arms      1.", "          2.", "          3."]
