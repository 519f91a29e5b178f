"""What Ray Tune hears of searcher and scheduler, without a cluster."""

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from advseg.platform.base.events import TrialUpdate
from advseg.platform.base.keys import ARM, ATTEMPT, FAILURE, HALVINGS, KIND, METRIC, NUMBER, PARAMS, STEP
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.spec.spec import Spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.sweep.attempts import Attempts
from advseg.platform.sweep.search import LedgerScheduler, LedgerSearcher
from advseg.platform.workers.heartbeat import Heart
from advseg.platform.workers.lease import Attempt
from advseg.platform.workers.retry import Failure, Kind
from advseg.trainers.errors import FencedError

MakeSpec = Callable[..., Spec]

STEPS = 8
HALVING = "sweep.pruner={name: successive_halving, min_resource: 2, reduction_factor: 2}"


@dataclass
class Tune:
    """Drives searcher and scheduler as Ray Tune does."""

    ledger: Ledger
    attempts: Attempts
    told: list[TrialUpdate]

    def __post_init__(self) -> None:
        self.searcher = LedgerSearcher(self.attempts)
        self.scheduler = LedgerScheduler(self.attempts, self.searcher)
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
            self.searcher.on_trial_complete(id, result)
        return verdict

    def end(self, id: str) -> None:
        """The training has made its last step."""
        self.searcher.on_trial_complete(id, {"done": True})

    def interrupt(self, id: str) -> None:
        """Tune ends the trial because it was told to end itself."""
        self.searcher.on_trial_complete(id, {})

    def beat(self, number: int) -> None:
        """The process of a trial's first attempt gives a sign of life."""
        directory = self.attempts.own(number).folder
        directory.mkdir(parents=True)
        Heart(LocalStore(directory), Attempt(), lambda: 4, lambda: None, "").stop()

    def die(self, id: str) -> None:
        """The process of the trial is gone."""
        self.searcher.on_trial_complete(id, error=True)


@pytest.fixture
def tune(make_spec: MakeSpec, opened: Callable[..., Ledger], tmp_path: Path) -> Callable[..., Tune]:
    """What a newly started driver has: the ledger as it was left."""

    def start(*overrides: str) -> Tune:
        spec, told = make_spec(*overrides), []
        ledger = opened(spec)
        return Tune(ledger, Attempts(ledger, spec, LocalStore(tmp_path), 2, told.append), told)

    return start


def test_a_trial_runs_to_its_end(tune: Callable[..., Tune]) -> None:
    driver = tune()
    config = driver.start("a")
    assert config == {NUMBER: 0, ARM: None, PARAMS: driver.ledger.row(0).params, ATTEMPT: 1, HALVINGS: 0}
    assert driver.report("a", 4, 30.0) == TrialScheduler.CONTINUE
    assert driver.report("a", 8, 40.0) == TrialScheduler.CONTINUE
    driver.end("a")
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


def test_the_search_ends_with_the_budget_and_its_last_trial(tune: Callable[..., Tune]) -> None:
    driver = tune("sweep.trials=2")
    for id in "ab":
        driver.start(id)
        driver.report(id, 8, 40.0)
    # What still runs may break and come back.
    assert driver.start("c") is None
    driver.end("a")
    assert driver.start("c") is None
    driver.end("b")
    assert driver.start("c") == Searcher.FINISHED


def test_a_trial_that_broke_is_proposed_again_as_its_next_attempt(tune: Callable[..., Tune]) -> None:
    driver = tune("sweep.trials=1")
    first = driver.start("a")
    assert driver.start("b") is None
    driver.report("a", 4, 30.0)
    driver.beat(0)
    driver.die("a")
    assert driver.start("b") == {**first, ATTEMPT: 2}
    driver.report("b", 4, 30.0)
    driver.report("b", 8, 50.0)
    driver.end("b")
    assert driver.ledger.row(0).curve == {4: 30.0, 8: 50.0}
    assert driver.start("c") == Searcher.FINISHED


def test_unfinished_trials_come_first(tune: Callable[..., Tune]) -> None:
    killed = tune("sweep.trials=4")
    points = [killed.start(id)[PARAMS] for id in "abc"]
    killed.report("b", 4, 30.0)
    killed.end("b")
    anew = tune("sweep.trials=4")
    configs = [anew.start(id) for id in "def"]
    assert [config[NUMBER] for config in configs] == [0, 2, 3]
    assert [config[ATTEMPT] for config in configs] == [2, 2, 1]
    assert [config[PARAMS] for config in configs[:2]] == [points[0], points[2]]


def test_an_interrupted_trial_stays_as_it_is_for_the_next_search(tune: Callable[..., Tune]) -> None:
    driver = tune("sweep.trials=1")
    driver.start("a")
    driver.report("a", 4, 30.0)
    driver.interrupt("a")
    assert (driver.ledger.row(0).state, driver.ledger.row(0).reason) == (TrialState.RUNNING, "")
    assert tune("sweep.trials=1").start("b")[NUMBER] == 0


@pytest.mark.parametrize("number", [3, 0])
def test_a_search_that_is_interrupted_between_two_trials_is_not_at_its_end(
    tune: Callable[..., Tune], number: int
) -> None:
    driver = tune("sweep.trials=4")
    for id in "abcd"[:number]:
        driver.start(id)
        driver.report(id, 8, 30.0)
        driver.end(id)
    assert not driver.attempts.spent


def test_a_reported_failure_is_a_failure_with_its_reason(tune: Callable[..., Tune]) -> None:
    driver = tune()
    driver.start("a")
    driver.report("a", 4, 30.0)
    verdict = driver.report("a", 0, math.nan, **{KIND: "diverged", FAILURE: "loss/ce at step 5"})
    assert verdict == TrialScheduler.STOP
    row = driver.ledger.row(0)
    assert (row.state, row.reason, row.curve) == (TrialState.FAIL, "diverged: loss/ce at step 5", {4: 30.0})
    assert (driver.told[-1].state, driver.told[-1].reason) == ("FAIL", "diverged: loss/ce at step 5")


DISK = {KIND: "environment", FAILURE: "on node-7: no space left"}


def test_a_process_that_told_what_broke_it_is_replaced_and_its_trial_is_tried_again(tune: Callable[..., Tune]) -> None:
    driver = tune("sweep.trials=1")
    driver.start("a")
    # Tune keeps the process of a trial that it stops, for the next one, and ends one that raises.
    assert driver.report("a", 0, math.nan, **DISK) == TrialScheduler.CONTINUE
    assert driver.start("b") is None
    driver.die("a")
    row = driver.ledger.row(0)
    assert (row.state, row.reason, row.account.lost) == (TrialState.RUNNING, "", 0)


def test_an_error_is_the_trials_and_its_process_is_replaced_all_the_same(tune: Callable[..., Tune]) -> None:
    driver = tune()
    driver.start("a")
    assert driver.report("a", 0, math.nan, **{KIND: "error", FAILURE: "odd"}) == TrialScheduler.CONTINUE
    driver.die("a")
    row = driver.ledger.row(0)
    assert (row.state, row.reason) == (TrialState.FAIL, "odd")


def test_while_all_that_there_is_waits_tune_ends_and_is_not_left_waiting_itself(tune: Callable[..., Tune]) -> None:
    driver = tune("sweep.trials=1")
    driver.start("a")
    driver.report("a", 0, math.nan, **DISK)
    driver.die("a")
    assert driver.start("b") == Searcher.FINISHED
    assert not driver.attempts.spent
    assert 0 < driver.attempts.pause_s <= 3


def test_a_worker_that_another_driver_fenced_out_is_the_end_of_this_one(tune: Callable[..., Tune]) -> None:
    driver = tune()
    driver.start("a")
    with pytest.raises(FencedError, match="belongs to attempt 2 of epoch 9"):
        driver.report("a", 0, math.nan, **{KIND: "fenced", FAILURE: "it belongs to attempt 2 of epoch 9 now"})
    assert driver.ledger.row(0).state is TrialState.RUNNING


def test_a_trial_that_was_condemned_fails_for_that_and_not_for_its_death(tune: Callable[..., Tune]) -> None:
    driver = tune()
    driver.start("a")
    driver.searcher.condemn(0, Failure(kind=Kind.TIMEOUT, text="trained for more than 9 s"))
    driver.die("a")
    assert driver.ledger.row(0).reason == "timeout: trained for more than 9 s"


def test_a_condemned_trial_that_ends_by_itself_is_complete_and_no_later_attempt_is_condemned(
    tune: Callable[..., Tune],
) -> None:
    driver = tune()
    driver.start("a")
    driver.report("a", 8, 30.0)
    driver.searcher.condemn(0, Failure(kind=Kind.TIMEOUT))
    driver.end("a")
    assert driver.ledger.row(0).state is TrialState.COMPLETE
    assert driver.searcher._condemned == {}


def test_a_trial_that_ends_without_a_report_is_a_failure(tune: Callable[..., Tune]) -> None:
    driver = tune()
    driver.start("a")
    driver.end("a")
    assert driver.ledger.row(0).state is TrialState.FAIL


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
    assert pickle.loads(pickle.dumps(driver.searcher))
    assert pickle.loads(pickle.dumps(driver.scheduler))
