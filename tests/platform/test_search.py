import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from advseg.platform.events import TrialUpdate
from advseg.platform.ledger import Ledger, open_ledger
from advseg.platform.report_keys import FAILURE, METRIC, NUMBER, STEP
from advseg.platform.search import LedgerScheduler, LedgerSearcher, TrialWatch
from advseg.platform.spec import Spec

MakeSpec = Callable[..., Spec]

STEPS = 8
HALVING = "sweep.pruner={name: successive_halving, min_resource: 2, reduction_factor: 2}"


@dataclass
class Tune:
    """Drives searcher and scheduler as Ray Tune does, without a cluster."""

    ledger: Ledger
    told: list[TrialUpdate]

    def __post_init__(self) -> None:
        watch = TrialWatch(self.ledger, "probe", STEPS, self.told.append)
        self.searcher = LedgerSearcher(self.ledger, watch)
        self.scheduler = LedgerScheduler(self.ledger, watch, STEPS)
        self.trials: dict[str, Trial] = {}

    def start(self, id: str) -> Any:
        config = self.searcher.suggest(id)
        if isinstance(config, dict):
            self.trials[id] = Trial("probe", config=config, trial_id=id, stub=True)
        return config

    def report(self, id: str, step: int, miou: float, **more: str) -> str:
        """One result; what STOP leads to follows."""
        result = {STEP: step, METRIC: miou, **more}
        verdict = self.scheduler.on_trial_result(None, self.trials[id], result)
        if verdict == TrialScheduler.STOP:
            self.end(id, result)
        return verdict

    def end(self, id: str, result: dict[str, Any] | None = None, *, error: bool = False) -> None:
        self.searcher.on_trial_complete(id, result, error)


@pytest.fixture
def tune(make_spec: MakeSpec, tmp_path: Path) -> Callable[..., Tune]:
    """What a newly started driver has: the ledger as it was left."""
    return lambda *overrides: Tune(open_ledger(tmp_path, make_spec(*overrides)), [])


def test_a_trial_runs_to_its_end(tune: Callable[..., Tune]) -> None:
    driver = tune()
    config = driver.start("a")
    assert config[NUMBER] == 0
    assert config["params"] == driver.ledger.row(0).params
    assert driver.report("a", 4, 30.0) == TrialScheduler.CONTINUE
    assert driver.report("a", 8, 40.0) == TrialScheduler.CONTINUE
    driver.end("a", {STEP: 8, METRIC: 40.0})
    row = driver.ledger.row(0)
    assert (row.state, row.curve, row.reason) == (TrialState.COMPLETE, {4: 30.0, 8: 40.0}, "")


def test_followers_hear_of_every_change_in_order(tune: Callable[..., Tune]) -> None:
    driver = tune()
    driver.start("a")
    driver.report("a", 4, 30.0)
    driver.end("a")
    assert [(u.key, u.state, u.step, u.miou) for u in driver.told] == [
        ("probe/0", "RUNNING", 0, None),
        ("probe/0", "RUNNING", 4, 30.0),
        ("probe/0", "COMPLETE", 4, 30.0),
    ]
    assert {update.steps for update in driver.told} == {STEPS}
    assert driver.told[-1].params == driver.ledger.row(0).params


def test_the_budget_ends_the_search(tune: Callable[..., Tune]) -> None:
    driver = tune("sweep.trials=2")
    assert [driver.start(id) and None for id in "ab"] == [None, None]
    assert driver.start("c") == Searcher.FINISHED


def test_unfinished_trials_come_first(tune: Callable[..., Tune]) -> None:
    killed = tune("sweep.trials=4")
    points = [killed.start(id)["params"] for id in "abc"]
    killed.report("b", 4, 30.0)
    killed.end("b")
    anew = tune("sweep.trials=4")
    configs = [anew.start(id) for id in "def"]
    assert [config[NUMBER] for config in configs] == [0, 2, 3]
    assert [config["params"] for config in configs[:2]] == [points[0], points[2]]
    assert anew.start("g") == Searcher.FINISHED


def test_a_resumed_trial_may_report_a_step_again(tune: Callable[..., Tune]) -> None:
    killed = tune()
    killed.start("a")
    killed.report("a", 4, 30.0)
    anew = tune()
    anew.start("b")
    anew.report("b", 4, 30.0)
    anew.report("b", 8, 50.0)
    anew.end("b")
    assert anew.ledger.row(0).curve == {4: 30.0, 8: 50.0}


def test_a_reported_failure_is_a_failure_with_its_reason(tune: Callable[..., Tune]) -> None:
    driver = tune()
    driver.start("a")
    driver.report("a", 4, 30.0)
    verdict = driver.report("a", 0, math.nan, **{FAILURE: "diverged: ce at step 5"})
    assert verdict == TrialScheduler.STOP
    row = driver.ledger.row(0)
    assert (row.state, row.reason, row.curve) == (TrialState.FAIL, "diverged: ce at step 5", {4: 30.0})
    assert (driver.told[-1].state, driver.told[-1].reason) == ("FAIL", "diverged: ce at step 5")


def test_a_trial_whose_process_died_is_a_failure(tune: Callable[..., Tune]) -> None:
    driver = tune()
    driver.start("a")
    driver.report("a", 4, 30.0)
    driver.end("a", error=True)
    assert (driver.ledger.row(0).state, driver.ledger.row(0).reason) == (TrialState.FAIL, "its worker process died")


def test_a_trial_that_ends_without_a_report_is_a_failure(tune: Callable[..., Tune]) -> None:
    driver = tune()
    driver.start("a")
    driver.end("a")
    assert driver.ledger.row(0).state is TrialState.FAIL


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("step", [4, STEPS])
def test_a_value_that_is_not_finite_is_a_failure_not_an_early_stop(
    tune: Callable[..., Tune], value: float, step: int
) -> None:
    driver = tune(HALVING)
    driver.start("a")
    assert driver.report("a", step, value) == TrialScheduler.STOP
    assert (driver.ledger.row(0).state, driver.ledger.row(0).reason) == (TrialState.FAIL, f"bad value: {value}")


def test_a_trial_among_the_worse_is_stopped_early(tune: Callable[..., Tune]) -> None:
    driver = tune(HALVING)
    for id in "ab":
        driver.start(id)
    assert driver.report("a", 2, 50.0) == TrialScheduler.CONTINUE
    assert driver.report("b", 2, 40.0) == TrialScheduler.STOP
    row = driver.ledger.row(1)
    assert (row.state, row.reason, row.curve) == (TrialState.PRUNED, "not among the best at step 2", {2: 40.0})
    assert driver.told[-1].state == "PRUNED"


def test_no_trial_is_stopped_at_its_last_step(tune: Callable[..., Tune]) -> None:
    driver = tune(HALVING)
    for id in "ab":
        driver.start(id)
    driver.report("a", STEPS, 50.0)
    assert driver.report("b", STEPS, 40.0) == TrialScheduler.CONTINUE
    driver.end("b")
    assert driver.ledger.row(1).state is TrialState.COMPLETE


def test_tune_saves_nothing_of_the_search(tune: Callable[..., Tune], tmp_path: Path) -> None:
    driver = tune()
    driver.start("a")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    driver.searcher.save(str(folder / "searcher.pkl"))
    # As Tune calls it at its own checkpoints.
    driver.searcher.save_to_dir(str(folder), "session")
    driver.searcher.restore(str(folder / "no such file"))
    assert not [file for file in folder.rglob("*") if file.is_file() and file.stat().st_size]
    assert driver.searcher._unfinished == []
