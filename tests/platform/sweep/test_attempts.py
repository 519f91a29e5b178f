"""What becomes of scripted attempts, and what they have cost."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from optuna.trial import TrialState

from advseg.models.manifest import checksum_of
from advseg.platform.base.keys import METRIC
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.rows import Row
from advseg.platform.spec.spec import Spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.sweep.attempts import Attempts
from advseg.platform.tracking.spool import Spool
from advseg.platform.workers.account import Account
from advseg.platform.workers.heartbeat import FILE, Beat
from advseg.platform.workers.retry import Failure, Kind
from advseg.platform.workers.task import METRICS
from advseg.trainers.checkpoint import save_checkpoint

MakeSpec = Callable[..., Spec]

STEPS = 8
HALVING = "sweep.pruner={name: successive_halving, min_resource: 2, reduction_factor: 2}"
OUT_OF_MEMORY = Failure(kind=Kind.OUT_OF_MEMORY, text="CUDA out of memory")
PREEMPTED = Failure(kind=Kind.PREEMPTED, text="asked to stop, and saved at step 3")
LOST = Failure(kind=Kind.LOST, text="its worker process died")


class Driver:
    """The attempts of a sweep, and what their processes leave on the disk."""

    def __init__(self, ledger: Ledger, spec: Spec, storage: Path) -> None:
        self.ledger = ledger
        self.now = 100.0
        assert spec.sweep
        self.attempts = Attempts(
            ledger, spec, LocalStore(storage), spec.sweep.concurrency, lambda update: None, clock=lambda: self.now
        )
        self._storage = storage

    def start(self) -> Row:
        row = self.attempts.next()
        assert row
        return row

    def row(self, number: int = 0) -> Row:
        return self.ledger.row(number)

    def account(self, number: int = 0) -> Account:
        return self.row(number).account

    def trains(
        self,
        *,
        attempt: int,
        step: int,
        seconds: float,
        saved: int | None = None,
        number: int = 0,
        failure: Failure | None = None,
        run_id: str | None = None,
    ) -> None:
        """An attempt has made `step` steps, the newest checkpoint being that of step `saved`."""
        directory = self._storage / "probe" / str(number)
        directory.mkdir(parents=True, exist_ok=True)
        beat = Beat(
            epoch=1, attempt=attempt, step=step, seconds=seconds, pid=1, node="", failure=failure, run_id=run_id
        )
        (directory / FILE).write_text(json.dumps(asdict(beat)))
        if saved is not None:
            save_checkpoint(directory / "checkpoints", saved, {"step": saved})


@pytest.fixture
def drive(make_spec: MakeSpec, opened: Callable[..., Ledger], tmp_path: Path) -> Callable[..., Driver]:
    """A driver that is started, or takes over from the one before, which was killed."""

    def start(*overrides: str) -> Driver:
        spec = make_spec(*overrides)
        return Driver(opened(spec), spec, tmp_path)

    return start


class TestNext:
    def test_counts_the_attempts_of_each_trial(self, drive: Callable[..., Driver]) -> None:
        driver = drive()
        assert [(row.number, row.account.attempts) for row in (driver.start(), driver.start())] == [(0, 1), (1, 1)]
        driver.attempts.fail(0, LOST)
        assert [(row.number, row.account.attempts) for row in (driver.start(), driver.start())] == [(0, 2), (2, 1)]

    def test_gives_unfinished_trials_first_oldest_first(self, drive: Callable[..., Driver]) -> None:
        killed = drive()
        for _ in range(3):
            killed.start()
        killed.attempts.fail(1, Failure(kind=Kind.ERROR, text="broken"))
        anew = drive()
        assert [anew.start().number for _ in range(3)] == [0, 2, 3]

    def test_gives_nothing_once_the_budget_is_spent(self, drive: Callable[..., Driver]) -> None:
        driver = drive("sweep.trials=1")
        driver.start()
        assert driver.attempts.next() is None
        assert not driver.attempts.spent
        driver.attempts.report(0, STEPS, 50.0)
        driver.attempts.complete(0)
        assert driver.attempts.spent

    def test_gives_a_lost_trial_again_even_then(self, drive: Callable[..., Driver]) -> None:
        driver = drive("sweep.trials=1")
        driver.start()
        assert driver.attempts.next() is None
        driver.attempts.fail(0, LOST)
        assert driver.start().number == 0


DISK = Failure(kind=Kind.ENVIRONMENT, text="on node-7: no space left")
BUG = Failure(kind=Kind.ERROR, text="ValueError: odd")


class TestEnvironment:
    def test_leaves_a_trial_unfinished_and_uncounted_and_it_goes_again_after_a_pause(
        self, drive: Callable[..., Driver]
    ) -> None:
        driver = drive("sweep.trials=1")
        for attempt, pause in enumerate((3, 9, 27), start=1):
            assert driver.start().account == Account(attempts=attempt)
            driver.attempts.fail(0, DISK)
            assert (driver.row().state, driver.row().reason) == (TrialState.RUNNING, "")
            assert driver.attempts.next() is None
            assert driver.attempts.pause_s == pause
            driver.now += pause
        assert driver.start().account == Account(attempts=4)
        driver.attempts.report(0, STEPS, 50.0)
        driver.attempts.complete(0)
        assert driver.row().state is TrialState.COMPLETE

    def test_that_stays_broken_stops_the_sweep_and_fails_no_trial(self, drive: Callable[..., Driver]) -> None:
        driver = drive("sweep.retry.stop_after=3")
        for _ in range(3):
            driver.start()
            driver.attempts.fail(0, DISK)
            driver.now += 30
        assert driver.attempts.next() is None
        assert driver.attempts.ailment == (
            "3 failures in a row with no report between them, at last on node-7: no space left: mend that, and "
            "`advseg sweep resume probe` goes on"
        )
        assert [row.state for row in driver.ledger.rows()] == [TrialState.RUNNING]
        assert drive("sweep.retry.stop_after=3").start().number == 0

    def test_stops_the_sweep_also_if_a_report_comes_again_and_again_before_each_failure(
        self, drive: Callable[..., Driver]
    ) -> None:
        driver = drive("sweep.retry.stop_after=3")
        for pause in (3, 9, 27, 30):
            driver.start()
            driver.attempts.report(0, 4, 30.0)  # Its checkpoint finds no room.
            driver.attempts.fail(0, DISK)
            driver.now += pause
            if driver.attempts.ailment:
                break
        assert driver.attempts.ailment
        assert driver.row().state is TrialState.RUNNING

    def test_of_one_node_does_not_stop_what_runs_elsewhere(self, drive: Callable[..., Driver]) -> None:
        driver = drive("sweep.retry.stop_after=2", "sweep.concurrency=2")
        assert [driver.start().number for _ in range(2)] == [0, 1]
        driver.attempts.fail(0, DISK)
        driver.now += 30
        assert driver.start().number == 0
        driver.attempts.fail(0, DISK)
        driver.now += 30
        assert driver.attempts.next() is None
        assert not driver.attempts.is_idle
        driver.attempts.report(1, 4, 30.0)
        assert driver.attempts.ailment is None
        assert driver.start().number == 0

    def test_opens_no_other_trials_while_those_that_it_ended_wait(self, drive: Callable[..., Driver]) -> None:
        driver = drive("sweep.concurrency=2")
        for number in range(2):
            driver.start()
            driver.attempts.fail(number, DISK)
        assert driver.attempts.next() is None
        assert len(driver.ledger.rows()) == 2

    def test_lets_another_go_on_beside_the_one_that_waits(self, drive: Callable[..., Driver]) -> None:
        driver = drive("sweep.concurrency=2")
        driver.start()
        driver.attempts.fail(0, DISK)
        assert driver.start().number == 1

    def test_is_told_from_errors_of_which_many_alike_stop_a_sweep_that_has_never_reported(
        self, drive: Callable[..., Driver]
    ) -> None:
        driver = drive("sweep.retry.stop_after=2")
        for number in range(2):
            driver.start()
            driver.attempts.fail(number, BUG)
        assert driver.attempts.next() is None
        assert driver.attempts.ailment and driver.attempts.ailment.endswith(
            "ValueError: odd: mend that, and `advseg sweep retry probe` goes on"
        )

    def test_errors_do_not_stop_a_sweep_that_reported_under_a_driver_before(self, drive: Callable[..., Driver]) -> None:
        before = drive()
        before.start()
        before.attempts.report(0, 4, 30.0)
        driver = drive("sweep.retry.stop_after=2", "sweep.trials=4")
        for number in range(3):
            driver.start()
            driver.attempts.fail(number, BUG)
        assert driver.attempts.ailment is None


def test_nothing_begins_once_it_is_stopped(drive: Callable[..., Driver]) -> None:
    driver = drive()
    driver.attempts.stop()
    assert driver.attempts.next() is None
    assert not driver.attempts.spent


class TestEnd:
    def test_of_a_trial_that_made_its_last_step_is_complete(self, drive: Callable[..., Driver]) -> None:
        driver = drive()
        driver.start()
        assert driver.attempts.report(0, STEPS, 50.0)
        driver.attempts.complete(0)
        assert (driver.row().state, driver.row().value) == (TrialState.COMPLETE, 50.0)

    def test_of_a_worse_trial_is_pruned_with_its_cost(self, drive: Callable[..., Driver]) -> None:
        driver = drive(HALVING)
        for _ in range(2):
            driver.start()
        assert driver.attempts.report(0, 2, 50.0)
        driver.trains(number=1, attempt=1, step=2, seconds=3.0)
        assert not driver.attempts.report(1, 2, 40.0)
        row = driver.row(1)
        assert (row.state, row.reason) == (TrialState.PRUNED, "not among the best at step 2")
        assert (row.account.device_seconds, row.account.lost_steps) == (3.0, 0)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("step", [4, STEPS])
    def test_of_a_value_that_is_not_finite_is_a_failure_not_an_early_stop(
        self, drive: Callable[..., Driver], value: float, step: int
    ) -> None:
        driver = drive(HALVING)
        driver.start()
        assert not driver.attempts.report(0, step, value)
        assert (driver.row().state, driver.row().reason) == (TrialState.FAIL, f"bad value: {value}")

    @pytest.mark.parametrize("kind", [Kind.DIVERGED, Kind.TIMEOUT, Kind.ERROR])
    def test_of_a_failure_that_would_come_again_is_a_failure_at_once(
        self, drive: Callable[..., Driver], kind: Kind
    ) -> None:
        driver = drive("sweep.trials=1")
        driver.start()
        failure = Failure(kind=kind, text="because")
        driver.attempts.fail(0, failure)
        assert (driver.row().state, driver.row().reason) == (TrialState.FAIL, str(failure))
        assert driver.attempts.next() is None
        assert driver.attempts.spent

    def test_is_the_first_that_it_came_to(self, drive: Callable[..., Driver]) -> None:
        driver = drive()
        driver.start()
        driver.attempts.report(0, STEPS, 50.0)
        driver.attempts.complete(0)
        driver.attempts.fail(0, LOST)
        driver.attempts.complete(0)
        assert (driver.row().state, driver.account().lost) == (TrialState.COMPLETE, 0)


class TestAgain:
    @pytest.mark.parametrize("kind", [Kind.LOST, Kind.HUNG])
    def test_goes_a_lost_trial_until_it_was_lost_too_often(self, drive: Callable[..., Driver], kind: Kind) -> None:
        driver = drive("sweep.retry.max_attempts=3", "sweep.trials=1")
        for attempt in (1, 2, 3):
            assert driver.start().account.attempts == attempt
            assert driver.row().state is TrialState.RUNNING
            driver.attempts.fail(0, Failure(kind=kind, text="no step in 600 s"))
        row = driver.row()
        assert (row.state, row.account.lost) == (TrialState.FAIL, 3)
        assert row.reason == "worker lost too often: 3 times, at last no step in 600 s"

    def test_goes_a_trial_that_lost_a_worker_under_each_of_several_drivers(self, drive: Callable[..., Driver]) -> None:
        for attempt in (1, 2):
            driver = drive("sweep.retry.max_attempts=3")
            assert driver.start().account.attempts == attempt
            driver.attempts.fail(0, LOST)
        driver = drive("sweep.retry.max_attempts=3")
        driver.start()
        driver.attempts.fail(0, LOST)
        assert driver.row().state is TrialState.FAIL

    def test_goes_a_trial_whose_driver_was_killed_and_that_is_no_lost_worker(
        self, drive: Callable[..., Driver]
    ) -> None:
        for attempt in range(1, 6):
            assert drive("sweep.retry.max_attempts=1").start().account == Account(attempts=attempt)

    def test_goes_a_pre_empted_trial_however_often(self, drive: Callable[..., Driver]) -> None:
        driver = drive("sweep.retry.max_attempts=1")
        for attempt in range(1, 6):
            driver.start()
            driver.trains(attempt=attempt, step=attempt, seconds=1.0, saved=attempt, failure=PREEMPTED)
            driver.attempts.fail(0, driver.attempts.lost(0))
            driver.now += driver.attempts.pause_s
        assert driver.row().state is TrialState.RUNNING
        assert (driver.account().lost, driver.account().lost_steps) == (0, 0)

    def test_goes_a_trial_that_ran_out_of_memory_once_with_half_its_micro_batch(
        self, drive: Callable[..., Driver]
    ) -> None:
        driver = drive("sweep.trials=1")
        driver.start()
        driver.attempts.fail(0, OUT_OF_MEMORY)
        assert driver.start().account == Account(attempts=2, halvings=1)
        driver.attempts.fail(0, OUT_OF_MEMORY)
        row = driver.row()
        assert (row.state, row.reason) == (TrialState.FAIL, "out of memory: CUDA out of memory")
        assert row.account.halvings == 1

    def test_goes_no_trial_that_ran_out_of_memory_with_one_image_at_a_time(self, drive: Callable[..., Driver]) -> None:
        driver = drive("trainer.accumulation=4")
        driver.start()
        driver.attempts.fail(0, OUT_OF_MEMORY)
        assert driver.row().state is TrialState.FAIL

    @pytest.mark.parametrize(("batch_size", "state"), [(1, TrialState.FAIL), (2, TrialState.RUNNING)])
    def test_goes_a_trial_by_the_batch_that_is_its_own(
        self, drive: Callable[..., Driver], batch_size: int, state: TrialState
    ) -> None:
        space = "sweep.space={trainer.batch_size: {low: 1, high: 2}}"
        driver = drive(space, f"sweep.first=[{{trainer.batch_size: {batch_size}}}]")
        driver.start()
        driver.attempts.fail(0, OUT_OF_MEMORY)
        assert driver.row().state is state

    def test_goes_no_trial_whose_workers_have_one_image_each(self, drive: Callable[..., Driver]) -> None:
        driver = drive("resources.workers=4")
        driver.start()
        driver.attempts.fail(0, OUT_OF_MEMORY)
        assert driver.row().state is TrialState.FAIL


class TestLost:
    def test_is_an_attempt_whose_process_is_gone(self, drive: Callable[..., Driver]) -> None:
        driver = drive()
        driver.start()
        driver.trains(attempt=1, step=3, seconds=1.0)
        assert driver.attempts.lost(0) == LOST

    def test_is_not_one_that_never_began_which_says_nothing_of_the_trial(self, drive: Callable[..., Driver]) -> None:
        driver = drive()
        driver.start()
        assert driver.attempts.lost(0) == Failure(kind=Kind.ENVIRONMENT, text="its worker process died before it began")

    def test_is_not_one_that_said_that_it_was_pre_empted(self, drive: Callable[..., Driver]) -> None:
        driver = drive()
        driver.start()
        driver.trains(attempt=1, step=3, seconds=1.0, failure=PREEMPTED)
        assert driver.attempts.lost(0) == PREEMPTED

    def test_is_not_one_that_said_that_it_had_run_out_of_memory(self, drive: Callable[..., Driver]) -> None:
        driver = drive()
        driver.start()
        driver.trains(attempt=1, step=3, seconds=1.0, failure=OUT_OF_MEMORY)
        assert driver.attempts.lost(0) == OUT_OF_MEMORY

    def test_is_one_of_which_only_an_older_attempt_was_pre_empted(self, drive: Callable[..., Driver]) -> None:
        driver = drive()
        driver.start()
        driver.trains(attempt=1, step=3, seconds=1.0, failure=PREEMPTED)
        driver.attempts.fail(0, driver.attempts.lost(0))
        driver.start()
        driver.trains(attempt=2, step=3, seconds=1.0)
        assert driver.attempts.lost(0) == LOST


class TestAccount:
    def test_sums_seconds_and_steps_that_must_be_made_again(self, drive: Callable[..., Driver]) -> None:
        driver = drive()
        driver.start()
        driver.trains(attempt=1, step=5, seconds=10.0, saved=4, run_id="run")
        driver.attempts.fail(0, LOST)
        first = checksum_of(driver.attempts.own(0).folder / "checkpoints" / "step-00000004")
        expected = Account(
            attempts=1,
            lost=1,
            counted=1,
            device_seconds=10.0,
            lost_steps=1,
            run_id="run",
            checkpoint="probe/0/checkpoints/step-00000004",
            checksum=first,
        )
        assert driver.account() == expected
        driver.start()
        driver.trains(attempt=2, step=8, seconds=3.5, saved=8)
        driver.attempts.report(0, STEPS, 50.0)
        driver.attempts.complete(0)
        account = driver.account()
        assert (account.attempts, account.device_seconds, account.lost_steps) == (2, 13.5, 1)
        assert (account.run_id, account.checkpoint) == ("run", "probe/0/checkpoints/step-00000008")
        assert first and account.checksum not in (None, first)

    def test_of_a_trial_that_was_lost_before_its_first_checkpoint_has_all_steps_lost(
        self, drive: Callable[..., Driver]
    ) -> None:
        driver = drive()
        driver.start()
        driver.trains(attempt=1, step=3, seconds=1.0)
        driver.attempts.fail(0, LOST)
        assert (driver.account().lost_steps, driver.account().checkpoint) == (3, None)

    @pytest.mark.parametrize(
        ("resources", "devices"),
        [
            ("{workers: 2}", 2),
            ("{workers: 2, gpus_per_worker: 1}", 2),
            ("{workers: 1, gpus_per_worker: 0.25}", 0.25),
            ("{workers: 1, cpus_per_worker: 7}", 1),
        ],
    )
    def test_counts_seconds_of_gpus_or_where_there_are_none_of_workers(
        self, drive: Callable[..., Driver], resources: str, devices: float
    ) -> None:
        driver = drive(f"resources={resources}")
        driver.start()
        driver.trains(attempt=1, step=3, seconds=10.0)
        driver.attempts.fail(0, LOST)
        assert driver.account().device_seconds == 10.0 * devices

    def test_counts_an_attempt_whose_driver_was_killed_once(self, drive: Callable[..., Driver]) -> None:
        drive().start()
        drive().trains(attempt=1, step=5, seconds=10.0, saved=4)
        # Two more drivers, of which the first is killed as soon as it has handed the trial out.
        for attempt in (2, 3):
            account = drive().start().account
            assert account.attempts == attempt
            assert (account.counted, account.device_seconds, account.lost_steps) == (1, 10.0, 1)

    def test_counts_an_attempt_once_if_the_driver_is_replaced_between_two(self, drive: Callable[..., Driver]) -> None:
        driver = drive()
        driver.start()
        driver.trains(attempt=1, step=5, seconds=10.0, saved=4)
        driver.attempts.fail(0, LOST)
        anew = drive()
        anew.start()
        anew.trains(attempt=2, step=7, seconds=1.0, saved=6)
        anew.attempts.fail(0, LOST)
        account = drive().start().account
        assert (account.attempts, account.lost, account.counted) == (3, 2, 2)
        assert (account.device_seconds, account.lost_steps) == (11.0, 2)

    def test_counts_nothing_twice_if_a_trial_is_handed_out_that_never_trained(
        self, drive: Callable[..., Driver]
    ) -> None:
        driver = drive()
        driver.start()
        driver.trains(attempt=1, step=5, seconds=10.0, saved=4)
        driver.attempts.fail(0, LOST)
        driver.start()
        driver.attempts.fail(0, LOST)
        account = driver.account()
        assert (account.attempts, account.lost, account.counted) == (2, 2, 1)
        assert (account.device_seconds, account.lost_steps) == (10.0, 1)

    def test_survives_a_heartbeat_that_is_torn(self, drive: Callable[..., Driver], tmp_path: Path) -> None:
        driver = drive()
        driver.start()
        driver.trains(attempt=1, step=5, seconds=10.0)
        path = tmp_path / "probe" / "0" / FILE
        path.write_text(path.read_text()[:20])
        driver.attempts.fail(0, LOST)
        assert driver.account() == Account(attempts=1, lost=1)


class TestReportsThatNobodyHeard:
    """A node died after it had saved, before its report arrived."""

    def spool(self, driver: Driver, *reports: tuple[int, float]) -> None:
        for step, miou in reports:
            Spool(driver.attempts.own(0).folder / METRICS).append(
                {"step": step, "timestamp": 1, "metrics": {METRIC: miou}}
            )

    def test_are_held_if_the_checkpoint_of_their_step_is_used(self, drive: Callable[..., Driver]) -> None:
        driver = drive("sweep.trials=1")
        driver.start()
        driver.attempts.report(0, 2, 20.0)
        self.spool(driver, (2, 20.0), (4, 40.0), (6, 60.0))
        driver.trains(attempt=1, step=6, seconds=1.0, saved=4)
        driver.attempts.fail(0, LOST)
        driver.start()
        # That of step 6 is made again.
        assert driver.row().curve == {2: 20.0, 4: 40.0}

    def test_are_held_also_under_another_driver(self, drive: Callable[..., Driver]) -> None:
        driver = drive()
        driver.start()
        self.spool(driver, (4, 40.0))
        driver.trains(attempt=1, step=4, seconds=1.0, saved=4)
        assert drive().start().curve == {4: 40.0}

    def test_are_held_of_a_trial_that_is_complete(self, drive: Callable[..., Driver]) -> None:
        driver = drive()
        driver.start()
        self.spool(driver, (4, 40.0), (STEPS, 80.0))
        driver.trains(attempt=1, step=STEPS, seconds=1.0, saved=STEPS)
        driver.attempts.complete(0)
        assert (driver.row().state, driver.row().curve) == (TrialState.COMPLETE, {4: 40.0, STEPS: 80.0})

    def test_may_be_what_a_trial_fails_for(self, drive: Callable[..., Driver]) -> None:
        driver = drive("sweep.trials=1")
        driver.start()
        self.spool(driver, (4, math.nan))
        driver.trains(attempt=1, step=4, seconds=1.0, saved=4)
        driver.attempts.fail(0, LOST)
        assert driver.attempts.next() is None
        assert (driver.row().state, driver.row().reason) == (TrialState.FAIL, "bad value: nan")
        assert driver.attempts.spent

    def test_may_be_what_a_trial_is_stopped_early_for(self, drive: Callable[..., Driver]) -> None:
        driver = drive(HALVING, "sweep.trials=2")
        for _ in range(2):
            driver.start()
        driver.attempts.report(1, 2, 50.0)
        self.spool(driver, (2, 40.0))
        driver.trains(attempt=1, step=2, seconds=1.0, saved=2)
        driver.attempts.fail(0, LOST)
        assert driver.attempts.next() is None
        assert driver.row().state is TrialState.PRUNED
