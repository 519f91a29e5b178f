"""The report of a sweep: one HTML file that needs nothing beside itself."""

import math
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState
from PIL import Image
from plotly.graph_objects import Figure
from typer.testing import CliRunner

from advseg.jobs.cli.main import app
from advseg.jobs.sweep import keep_report
from advseg.platform.base.keys import BASELINE
from advseg.platform.cluster.driver import Job
from advseg.platform.gate.verdict import judge
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.reading import SweepRecord
from advseg.platform.ledger.rows import BASELINE_NUMBER, Row
from advseg.platform.pages import sweep_report
from advseg.platform.pages.sweep_plots import CURVES, Plot, parameter_plots, study_of, trial_plots
from advseg.platform.pages.sweep_report import BEST, FAILED, report_of
from advseg.platform.spec.confirm import Confirm
from advseg.platform.spec.spec import Spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.tracking.ending import Ending, State
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run
from advseg.platform.workers.account import Account
from advseg.trainers.errors import FencedError, UserError
from advseg.trainers.pictures.report import CLASS_BARS, CONFUSION, PANELS

PLOTS = ["curves", "history", "parallel", "slices", "importance"]
COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING


class Page(HTMLParser):
    """What a browser makes of a page, as far as a test asks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.markup = text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def plots(self) -> list[str | None]:
        return [attrs["id"] for attrs in self.of("div") if attrs.get("class") == "plotly-graph-div"]


def row(
    number: int,
    value: float | None = None,
    state: TrialState = COMPLETE,
    *,
    reason: str = "",
    params: dict[str, float] | None = None,
    account: Account | None = None,
) -> Row:
    tried = {"method.lambda_adv": 0.01 * (number + 1), "method.threshold": (number * 7 % 10) / 10}
    return Row(
        number=number,
        params=tried if params is None else params,
        state=state,
        reason=reason,
        curve={} if value is None else {4: 30.0, 8: value},
        account=account or Account(attempts=1),
    )


def some(count: int) -> list[Row]:
    """Complete trials, the last the best."""
    return [row(number, 40.0 + number) for number in range(count)]


def run(ledger: Ledger, value: float, state: TrialState = COMPLETE, reason: str = "", account: Account | None = None):
    trial = ledger.propose()
    assert trial is not None
    ledger.report(trial, 8, value)
    ledger.note(trial, account or Account(attempts=1, device_seconds=60.0))
    if state is not RUNNING:
        ledger.finish(trial, state, reason)


@pytest.fixture
def report(make_spec: Callable[..., Spec], opened: Callable[..., Ledger], tmp_path: Path) -> Callable[..., Page]:
    """The page of a sweep whose trials `fill` makes."""

    def report(fill: Callable[[Ledger], None]) -> Page:
        fill(opened(make_spec()))
        return Page(report_of(LocalStore(tmp_path), "probe", None))

    return report


@pytest.fixture
def page_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[Row]], Page]:
    """The page of a sweep of these trials."""

    def page_of(rows: Sequence[Row], gate: str | None = None) -> Page:
        baseline = row(BASELINE_NUMBER, state=TrialState.WAITING, params={}, account=Account())
        record = SweepRecord(
            name="probe", rows=rows, baseline=baseline, spec=None, dataset=None, is_owned=True, gate=gate
        )
        monkeypatch.setattr(sweep_report, "read_sweep", lambda *_: record)
        return Page(report_of(LocalStore(tmp_path), "probe", None))

    return page_of


def five(ledger: Ledger) -> None:
    for value in (42.0, 43.0, 44.0, 45.0):
        run(ledger, value)
    run(ledger, 41.0, PRUNED, "not among the best at step 8", Account(attempts=2, lost=1, lost_steps=7))


def with_baseline(ledger: Ledger) -> None:
    account = Account(attempts=1, device_seconds=30.0, lost_steps=1)
    baseline = row(BASELINE_NUMBER, 43.5, params={}, account=account)
    ledger.hold_baseline(baseline)


class TestPage:
    def test_begins_with_dataset_verdict_and_the_best_trials(self, report: Callable[..., Page]) -> None:
        page = report(five)
        assert page.text.startswith("Sweep probe Sweep probe written on 2")
        assert (
            f"dataset data, digest {'d' * 64} best trial 3: mIoU 45.00; no complete baseline. Best trials" in page.text
        )
        assert "trial lambda_adv threshold mIoU, % best step state attempts images/s device time reason 3 " in page.text
        assert "45.00 45.00@8 8/8 COMPLETE 1 0:01:00 2 " in page.text
        assert "41.00 41.00@8 8/8 PRUNED 2 0 s not among the best at step 8" in page.text

    def test_has_every_plot_and_one_copy_of_plotly(self, report: Callable[..., Page]) -> None:
        page = report(five)
        assert page.plots == PLOTS
        assert page.markup.count("plotly.js v") == 1

    def test_loads_nothing(self, report: Callable[..., Page]) -> None:
        page = report(five)
        addresses = [attrs.get(name) for _, attrs in page.tags for name in ("src", "href", "srcset", "data", "poster")]
        assert [address for address in addresses if address and not address.startswith("data:")] == []
        assert {"link", "base", "iframe", "object"}.isdisjoint(tag for tag, _ in page.tags)

    def test_sums_up_what_was_spent_by_state(self, report: Callable[..., Page]) -> None:
        page = report(lambda ledger: (five(ledger), with_baseline(ledger)))
        assert (
            "trials: 4 COMPLETE, 1 PRUNED; device time: 0:04:00 and 30 s of the baseline; lost steps: 8." in page.text
        )
        assert (
            "COMPLETE 4 4 0 0 0:04:00 240 PRUNED 1 2 1 7 0 s 0 all trials 5 6 1 7 0:04:00 240 baseline 1 1 0 1 30 s 30"
            in page.text
        )
        assert page.text.endswith("Failed trials None.")

    def test_shows_what_users_wrote_as_they_wrote_it(self, report: Callable[..., Page]) -> None:
        wicked = "<script>alert('1')</script> & <b>"
        page = report(lambda ledger: run(ledger, 41.0, FAIL, wicked))
        assert page.text.count(wicked) == 2
        assert page.of("b") == []
        # One each of plotly and of every plot, whose element plotly's own script fills.
        assert len(page.of("script")) == 1 + len(page.plots)

    def test_compares_with_the_baseline_and_names_its_data(self, report: Callable[..., Page]) -> None:
        page = report(lambda ledger: (five(ledger), with_baseline(ledger)))
        assert "best trial 3 with mIoU 45.00 beats the supervised baseline with 43.50 (+1.50)." in page.text
        assert "Supervised baseline: mIoU 43.50." in page.text
        assert f"digest {'d' * 64}" in page.text

    def test_is_written_of_a_sweep_that_an_older_version_began(self, page_of: Callable[..., Page]) -> None:
        assert "dataset unknown best trial 4" in page_of(some(5)).text


class TestGate:
    def test_shows_the_pairs_and_what_follows_from_them(self, page_of: Callable[..., Page]) -> None:
        rivals = {"the supervised baseline": {1: 60.0, 2: 61.0, 3: 62.0, 4: 60.0, 5: 61.0}}
        gate = judge(Confirm(candidates=1, seeds=5), {3: {1: 63.0, 2: 65.0, 3: 66.0, 4: 64.0, 5: 64.5}}, rivals)
        page = page_of([row(3)], gate=gate.to_json())
        assert gate.reason in page.text
        assert 'id="gate"' in page.markup
        assert "3 the supervised baseline +3.70 +3.00 to +4.00 5 0.0312 0.0312" in page.text

    def test_is_not_there_where_none_has_spoken(self, page_of: Callable[..., Page]) -> None:
        assert "On fresh seeds" not in page_of([row(3)]).text

    def test_tells_of_one_without_a_pair(self, page_of: Callable[..., Page]) -> None:
        gate = judge(Confirm(candidates=1), {3: {1: None}}, {"the supervised baseline": {1: None}})
        assert "it failed on seed 1" in page_of([row(3)], gate=gate.to_json()).text


class TestFewOrStrangeTrials:
    def test_without_a_trial_there_are_sentences(self, report: Callable[..., Page]) -> None:
        page = report(lambda _: None)
        assert page.plots == []
        for sentence in (
            "No trial was handed out yet.",
            "No trial that did not fail has reported a mIoU.",
            "mIoU by trial No trial is complete.",
            "Parallel coordinates No trial is complete.",
            "mIoU by parameter No trial is complete.",
            "parameter importance: known from 4 complete trials on",
        ):
            assert sentence in page.text

    def test_without_a_complete_trial_there_are_curves(self, report: Callable[..., Page]) -> None:
        page = report(lambda ledger: run(ledger, 41.0, PRUNED, "too low"))
        assert page.plots == ["curves"]
        assert "no trial is complete; the supervised baseline has mIoU -." in page.text

    def test_failed_ones_are_listed_with_their_reasons(self, report: Callable[..., Page]) -> None:
        def fill(ledger: Ledger) -> None:
            run(ledger, math.nan)
            run(ledger, 45.0)
            run(ledger, math.inf, FAIL, "diverged at step 5")
            run(ledger, 44.0, RUNNING)

        page = report(fill)
        assert "Failed trials trial step reason 0 8 bad value: nan 2 8 diverged at step 5" in page.text
        assert "2 failed trials are not drawn." in page.text
        assert page.text.count("Complete trials only; not drawn: 1 STOPPED, 2 FAIL.") == 3

    def test_a_single_parameter_has_no_parallel_coordinates(self, page_of: Callable[..., Page]) -> None:
        rows = [row(i, 40.0 + i, params={"method.threshold": i / 10}) for i in range(5)]
        page = page_of(rows)
        assert page.plots == ["curves", "history", "slices", "importance"]
        assert "Fewer than two parameters vary among complete trials: threshold." in page.text

    def test_equal_values_have_no_importance(self, page_of: Callable[..., Page]) -> None:
        page = page_of([row(i, 40.0) for i in range(5)])
        assert page.plots == ["curves", "history", "parallel", "slices"]

    def test_one_point_tried_again_and_again(self, page_of: Callable[..., Page]) -> None:
        page = page_of([row(i, 40.0, params={"method.lambda_adv": 0.1, "method.threshold": 0.2}) for i in range(5)])
        assert page.plots == ["curves", "history", "slices"]
        assert "Fewer than two parameters vary among complete trials: none." in page.text


class TestManyTrials:
    def test_only_the_best_are_in_the_table(self, page_of: Callable[..., Page]) -> None:
        page = page_of(some(BEST + 7))
        assert page.text.count("COMPLETE 1 0 s") == BEST
        assert "And 7 more trials: `advseg sweep show probe --all` prints them." in page.text

    def test_only_the_best_have_curves(self) -> None:
        curves = trial_plots(some(CURVES + 3), None)[0]
        assert isinstance(curves.content, Figure)
        assert {trace.name for trace in curves.content.data} == {f"trial {i}" for i in range(3, CURVES + 3)}
        assert f"Drawn are the best {CURVES} of {CURVES + 3} trials." in curves.note

    def test_only_the_first_failed_ones_are_listed(self, page_of: Callable[..., Page]) -> None:
        page = page_of([row(i, state=FAIL, reason=f"reason {i}.") for i in range(FAILED + 9)])
        assert page.text.endswith(f"{FAILED - 1} 0 reason {FAILED - 1}. And 9 more.")


class TestPlots:
    @staticmethod
    def figures(
        rows: Sequence[Row], logarithmic: Sequence[str] = (), baseline: float | None = None
    ) -> dict[str, Figure]:
        plots: list[Plot] = [*trial_plots(rows, baseline), *parameter_plots(rows, logarithmic, baseline)]
        return {plot.name: plot.content for plot in plots if isinstance(plot.content, Figure)}

    def test_number_trials_as_the_ledger_does(self) -> None:
        rows = [row(7, 45.0), row(3, 44.0), row(9, 43.0, PRUNED)]
        known = [trial.number for trial in study_of(rows).trials if trial.state is not TrialState.WAITING]
        assert known == [3, 7, 9]
        assert {trace.name for trace in self.figures(rows)["curves"].data} == {"trial 3", "trial 7", "trial 9"}
        assert list(self.figures(rows)["history"].data[0].x) == [3, 7]

    def test_emphasise_the_best_complete_trial(self) -> None:
        curves = self.figures([*some(3), row(3, 99.0, PRUNED)])["curves"]
        assert [trace.name for trace in curves.data if trace.line.width == 3] == ["trial 2"]

    def test_have_the_axes_of_the_spec(self) -> None:
        slices = self.figures(some(5), ["method.lambda_adv"])["slices"]
        assert (slices.layout.xaxis.type, slices.layout.xaxis2.type) == ("log", None)
        assert (slices.layout.xaxis.title.text, slices.layout.xaxis2.title.text) == ("lambda_adv", "threshold")

    def test_show_a_baseline_that_lies_apart(self) -> None:
        for name in ("curves", "history", "slices"):
            figure = self.figures(some(5), baseline=90.0)[name]
            assert figure.layout.shapes[0].y0 == 90.0
            low, high = figure.layout.yaxis.range
            assert low < 30.0 if name == "curves" else low < 40.0
            assert high > 90.0
            assert not self.figures(some(5))[name].layout.shapes


class TestPictures:
    @staticmethod
    def draw(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)

    def test_are_the_newest_of_the_best_trial_and_the_baseline(
        self, report: Callable[..., Page], tmp_path: Path
    ) -> None:
        for training in ("3", BASELINE):
            for step in (75, 600):
                self.draw(tmp_path / "probe" / training / PANELS / f"step-{step:08d}.png")
        for name in (CONFUSION, CLASS_BARS):
            self.draw(tmp_path / "probe" / "3" / name)
        self.draw(tmp_path / "probe" / "0" / CONFUSION)
        page = report(five)
        assert [attrs["alt"] for attrs in page.of("img")] == [
            "best trial 3: step 600",
            "best trial 3: IoU of each class",
            "best trial 3: confusion matrix",
            "supervised baseline: step 600",
        ]
        assert all((attrs["src"] or "").startswith("data:image/png;base64,iVBOR") for attrs in page.of("img"))

    def test_that_are_not_there_are_told(self, report: Callable[..., Page], tmp_path: Path) -> None:
        page = report(five)
        assert f"No pictures of the best trial 3 in {tmp_path / 'probe' / '3'}." in page.text
        assert page.of("img") == []


class TestCommand:
    def test_writes_a_file_named_after_the_sweep(
        self,
        make_spec: Callable[..., Spec],
        opened: Callable[..., Ledger],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        five(opened(make_spec()))
        monkeypatch.chdir(tmp_path)
        done = CliRunner().invoke(app, ["sweep", "report", "probe", "--storage", str(tmp_path)], catch_exceptions=False)
        assert done.output == "report of sweep probe written to probe.html\n"
        assert re.search("<h1>Sweep probe</h1>", (tmp_path / "probe.html").read_text())

    def test_refuses_a_sweep_that_there_is_not(self, tmp_path: Path) -> None:
        error = CliRunner().invoke(app, ["sweep", "report", "nope", "--storage", str(tmp_path)]).exception
        assert isinstance(error, UserError)
        assert str(error).startswith(
            f"there is no sweep nope in {tmp_path}; known sweeps: none yet; a team's ledger is "
        )


class TestEndOfASweep:
    @pytest.fixture
    def job(
        self, document: dict[str, Any], write_spec: Callable[..., Path], client: MlflowClient, tmp_path: Path
    ) -> Job:
        return Job(path=write_spec({**document, "storage": str(tmp_path)}), tracking_uri=client.tracking_uri)

    @pytest.fixture
    def run_id(self, client: MlflowClient, tmp_path: Path) -> str:
        (tmp_path / "probe").mkdir()
        return ensure_run(client, RunIdentity(experiment="probe", key="probe"))

    def test_keeps_the_report_with_its_run(self, job: Job, run_id: str, opened: Callable[..., Ledger]) -> None:
        ledger = opened(job.spec)
        five(ledger)
        keep_report(job, ledger, run_id, Ending(State.COMPLETE))
        assert [artifact.path for artifact in job.client.list_artifacts(run_id)] == ["report.html"]
        assert "<h1>Sweep probe</h1>" in (job.store.root / "probe" / "report.html").read_text()

    def test_without_a_trial_keeps_none(self, job: Job, run_id: str, opened: Callable[..., Ledger]) -> None:
        keep_report(job, opened(job.spec), run_id, Ending(State.COMPLETE))
        assert job.client.list_artifacts(run_id) == []

    def test_is_not_lost_with_its_report(
        self, job: Job, run_id: str, opened: Callable[..., Ledger], caplog: pytest.LogCaptureFixture
    ) -> None:
        ledger = opened(job.spec)
        five(ledger)
        (job.store.root / "probe" / "report.html").mkdir()
        keep_report(job, ledger, run_id, Ending(State.COMPLETE))
        assert [record.message.partition(": ")[0] for record in caplog.records] == ["no report of sweep probe"]

    def test_that_another_process_owns_now_writes_nothing(
        self, job: Job, run_id: str, opened: Callable[..., Ledger]
    ) -> None:
        ledger = opened(job.spec)
        five(ledger)
        opened(job.spec)
        with pytest.raises(FencedError):
            keep_report(job, ledger, run_id, Ending(State.COMPLETE))
        assert not (job.store.root / "probe" / "report.html").exists()
        assert job.client.list_artifacts(run_id) == []
