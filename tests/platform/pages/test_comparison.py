"""Runs side by side, as a pure function; and which runs of MLflow a user's words name."""

import math
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from advseg.platform.pages.compared_runs import MOST, find_compared
from advseg.platform.pages.comparison import ComparedRun, compare, comparison_url, pair_of
from advseg.platform.pages.paired import MAX_PAIRS, paired_difference
from advseg.platform.tracking.ending import Ending, State
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import close_run, ensure_run, find_run
from advseg.platform.tracking.sending import Sender
from advseg.platform.tracking.spool import Spool
from advseg.trainers.errors import UserError

MIOU = "val/miou"


def compared(
    name: str,
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    curve: Mapping[int, float] | None = None,
    experiment: str = "1",
) -> ComparedRun:
    return ComparedRun(
        name=name,
        run_id=f"id-{name}",
        experiment_id=experiment,
        params=params or {},
        metrics=metrics or {},
        curve=curve or {},
    )


class TestParameters:
    def test_that_differ_are_shown_and_equal_ones_counted(self) -> None:
        one = compared("a", {"same": "1", "other": "1", "mine": "x"})
        two = compared("b", {"same": "1", "other": "2"})
        found = compare([one, two], MIOU)
        assert found.params == {"mine": ("x", None), "other": ("1", "2")}
        assert found.equal == 1

    def test_differ_if_one_of_several_runs_has_another(self) -> None:
        runs = [compared(name, {"p": value}) for name, value in zip("abc", "112", strict=True)]
        assert compare(runs, MIOU).params == {"p": ("1", "1", "2")}


class TestMetrics:
    def test_begin_with_the_one_asked_for_and_mean_iou(self) -> None:
        metrics = {"loss/ce": 1.0, MIOU: 50.0, "val/iou/thing": 40.0, "lr/segmenter": 0.1, "system/cpu": 3.0}
        found = compare([compared("a", metrics=metrics), compared("b", metrics={MIOU: 51.0})], "lr/segmenter")
        assert list(found.metrics) == ["lr/segmenter", MIOU, "loss/ce", "val/iou/thing"]
        assert found.metrics[MIOU] == (50.0, 51.0)
        assert found.metrics["loss/ce"] == (1.0, None)


class TestPairs:
    def test_are_of_the_others_against_the_first(self) -> None:
        runs = [compared(name, curve={1: value, 2: value}) for name, value in (("a", 1.0), ("b", 2.0), ("c", 4.0))]
        pairs = compare(runs, MIOU).pairs
        assert [(pair.name, pair.last) for pair in pairs] == [("b", 1.0), ("c", 3.0)]

    def test_are_taken_at_steps_that_both_have(self) -> None:
        pair = pair_of({1: 1.0, 2: 2.0, 3: 3.0, 5: 9.0}, {2: 3.0, 3: 6.0, 4: 0.0, 5: 9.5}, "b")
        assert (pair.common, pair.used, pair.first, pair.last) == (3, 3, 1.0, 0.5)
        assert pair.difference == paired_difference([3.0, 6.0, 9.5], [2.0, 3.0, 9.0])

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_leave_out_what_is_not_finite(self, bad: float) -> None:
        pair = pair_of({1: 1.0, 2: bad, 3: 1.0, 4: 1.0}, {1: 2.0, 2: 2.0, 3: 3.0, 4: bad}, "b")
        assert (pair.common, pair.first, pair.last) == (2, 1.0, 2.0)

    def test_of_one_step_have_no_interval(self) -> None:
        pair = pair_of({1: 1.0}, {1: 2.0}, "b")
        assert (pair.common, pair.first, pair.last, pair.difference) == (1, 1.0, 1.0, None)

    def test_of_no_step_have_nothing(self) -> None:
        pair = pair_of({1: 1.0}, {2: 2.0}, "b")
        assert (pair.common, pair.first, pair.last, pair.difference) == (0, None, None, None)

    def test_of_many_steps_are_of_as_many_as_the_interval_takes(self) -> None:
        base = dict.fromkeys(range(100), 0.0)
        pair = pair_of(base, {step: float(step) for step in base}, "b")
        assert (pair.common, pair.used) == (100, MAX_PAIRS)
        assert (pair.first, pair.last) == (0.0, 99.0)
        assert pair.difference is not None
        assert pair.difference.mean == pytest.approx(49.5, abs=0.5)


class TestAddress:
    def test_is_the_page_of_the_same_runs(self) -> None:
        runs = [compared("b", experiment="2"), compared("a", experiment="1"), compared("c", experiment="2")]
        url = comparison_url("http://127.0.0.1:5000/", runs)
        assert url
        page, _, query = url.partition("?")
        assert page == "http://127.0.0.1:5000/#/compare-runs"
        assert parse_qs(query) == {"runs": ['["id-b","id-a","id-c"]'], "experiments": ['["1","2"]']}
        assert not set('"[]," ') & set(url)

    def test_is_not_there_without_a_server(self) -> None:
        assert comparison_url("sqlite:///mlflow.db", [compared("a")]) is None


def track(client: MlflowClient, key: str, values: Mapping[int, float], state: str = "COMPLETE") -> str:
    run_id = ensure_run(client, RunIdentity(experiment=key.partition("/")[0], key=key, params={"trainer.steps": 8}))
    client.log_batch(run_id, metrics=[Metric(MIOU, value, 1, step) for step, value in values.items()])
    close_run(client, run_id, Ending(State(state)))
    return run_id


class TestNames:
    @staticmethod
    def found(client: MlflowClient, *names: str, metric: str = MIOU) -> tuple[list[str], list[str]]:
        said: list[str] = []
        return [run.name for run in find_compared(client, names, metric, said.append)], said

    @pytest.fixture
    def tracked(self, client: MlflowClient) -> MlflowClient:
        """Two sweeps."""
        ensure_run(client, RunIdentity(experiment="probe", key="probe"))
        track(client, "probe/baseline", {4: 40.0, 8: 45.0})
        for number, (miou, state) in enumerate([(44.0, "COMPLETE"), (46.0, "COMPLETE"), (99.0, "PRUNED")]):
            track(client, f"probe/{number}", {4: 30.0, 8: miou}, state)
        track(client, "other/0", {4: 41.0, 8: 47.0})
        return client

    def test_of_keys_and_ids_are_runs_in_the_order_given(self, tracked: MlflowClient) -> None:
        run_id = tracked.search_runs(
            [tracked.get_experiment_by_name("other").experiment_id], "tags.`advseg.key` = 'other/0'"
        )[0].info.run_id
        assert self.found(tracked, "probe/2", run_id, "probe/baseline") == (
            ["probe/2", "other/0", "probe/baseline"],
            [],
        )

    def test_bring_values_by_step(self, tracked: MlflowClient) -> None:
        one, two = find_compared(tracked, ["probe/0", "other/0"], MIOU, print)
        assert (one.curve, two.curve) == ({4: 30.0, 8: 44.0}, {4: 41.0, 8: 47.0})
        assert (one.metrics, one.params) == ({MIOU: 44.0}, {"trainer.steps": "8"})
        assert one.experiment_id != two.experiment_id

    def test_of_a_sweep_alone_are_baseline_and_complete_trials(self, tracked: MlflowClient) -> None:
        assert self.found(tracked, "probe") == (
            ["probe/baseline", "probe/1", "probe/0"],
            ["probe stands for its baseline and its 2 complete trials, best first"],
        )

    def test_of_a_sweep_among_others_are_its_best_trial(self, tracked: MlflowClient) -> None:
        assert self.found(tracked, "other", "probe") == (
            ["other/0", "probe/1"],
            [
                f"{sweep} stands for its best complete trial, {best}"
                for sweep, best in (("other", "other/0"), ("probe", "probe/1"))
            ],
        )

    def test_have_metrics_by_the_names_of_their_classes(self, tracked: MlflowClient, tmp_path: Path) -> None:
        name = "val/iou/road (wet)"
        for number in range(2):
            spool = Spool(tmp_path / f"{number}.jsonl")
            for step in (4, 8):
                spool.append({"step": step, "timestamp": step, "metrics": {name: float(step + number)}})
            run_id = find_run(tracked, "probe", f"probe/{number}") or ""
            Sender(tracked, run_id, f"probe/{number}").send(spool)
        one, two = find_compared(tracked, ["probe/0", "probe/1"], name, print)
        assert (one.curve, two.curve) == ({4: 4.0, 8: 8.0}, {4: 5.0, 8: 9.0})
        assert one.metrics == {MIOU: one.metrics[MIOU], name: 8.0}

    def test_of_a_large_sweep_are_the_best_of_it(self, client: MlflowClient) -> None:
        for number in range(MOST + 2):
            track(client, f"large/{number}", {8: float(number)})
        names, said = self.found(client, "large")
        assert names == [f"large/{number}" for number in range(MOST + 1, 1, -1)]
        assert said == [f"large stands for the best {MOST} of {MOST + 2} complete trials, best first"]

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (["probe/7", "probe/0"], "there is no run probe/7; probe has: probe/baseline, probe/0, probe/1, probe/2: "),
            (["nope", "probe"], "there is no sweep nope in MLflow at "),
            (["nope/0", "probe"], "; it has: Default, other, probe: name one of them"),
            (["0" * 32, "probe"], f"there is no run of the id {'0' * 32} in MLflow at "),
            (["other"], "compare takes two runs or more, but other is other/0 alone: name another"),
            (["probe/0", "probe/0"], "compare takes two runs or more, but probe/0 probe/0 is probe/0 alone"),
            (["/", "probe"], "there is no sweep  in MLflow"),
            (["probe/0'", "probe"], "there is no run probe/0'"),
        ],
    )
    def test_that_lead_nowhere_are_told_with_what_there_is(
        self, tracked: MlflowClient, names: list[str], message: str
    ) -> None:
        with pytest.raises(UserError) as told:
            self.found(tracked, *names)
        assert message in str(told.value)
        assert "\n" not in str(told.value)

    def test_of_a_sweep_without_a_complete_trial_are_refused(self, client: MlflowClient) -> None:
        track(client, "young/0", {4: 30.0}, "PRUNED")
        track(client, "young/1", {8: math.nan})
        with pytest.raises(UserError, match="young has no complete trial yet: name its runs one by one, as in young/0"):
            self.found(client, "young")

    def test_of_metrics_must_be_known(self, tracked: MlflowClient) -> None:
        with pytest.raises(UserError) as told:
            self.found(tracked, "probe/0", "probe/1", metric="val/mio")
        assert str(told.value) == "run probe/0 has no metric val/mio; it has: val/miou: name one by --metric"

    def test_make_no_experiment(self, tracked: MlflowClient) -> None:
        before = {experiment.name for experiment in tracked.search_experiments()}
        with pytest.raises(UserError):
            self.found(tracked, "nope/0", "probe")
        assert {experiment.name for experiment in tracked.search_experiments()} == before
