"""A training that is followed on workers, which are scripted here: no cluster."""

import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from mlflow.tracking import MlflowClient
from ray.exceptions import ActorDiedError
from ray.train import WorkerGroupError

from advseg.platform.base.events import Stage, TrialUpdate
from advseg.platform.spec.resources import Resources
from advseg.platform.spec.retry import Retry
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import REASON_TAG, STATE_TAG, ensure_run, find_run
from advseg.platform.tracking.spool import Spool
from advseg.platform.workers import followed as workers
from advseg.platform.workers.account import Account
from advseg.platform.workers.followed import follow_on_workers
from advseg.platform.workers.heartbeat import FILE, Beat, Heart
from advseg.platform.workers.lease import Attempt, Lease
from advseg.platform.workers.retry import Failure, Kind
from advseg.platform.workers.task import ACCUMULATION_TAG, METRICS, Task
from advseg.trainers.errors import (
    BrokenEnvironmentError,
    DivergedError,
    FencedError,
    NonFiniteLossError,
    PreemptedError,
    UserError,
)

LOST, MEMORY = ActorDiedError(), torch.cuda.OutOfMemoryError("CUDA out of memory")


class Script:
    """What becomes of one attempt after the other."""

    def __init__(self, *ends: Exception | Callable[[Task], None] | None) -> None:
        self.attempts: list[Task] = []
        self._ends = iter(ends)

    def __call__(self, task: Task, resources: Resources) -> None:
        Lease(task.own, task.attempt).take()
        self.attempts.append(task)
        end = next(self._ends)
        if isinstance(end, BaseException):
            raise end if isinstance(end, KeyboardInterrupt) else WorkerGroupError("", {0: end})
        if end:
            end(task)


def reports(*steps: int) -> Callable[[Task], None]:
    def run(task: Task) -> None:
        for step in steps:
            Spool(task.own.folder / METRICS).append(
                {"step": step, "timestamp": 1, "metrics": {"val/miou": 10.0 * step}}
            )

    return run


@pytest.fixture
def task(client: MlflowClient, tmp_path: Path) -> Task:
    ensure_run(client, RunIdentity(experiment="probe", key="probe"))
    return Task(
        spec={"trainer": {"steps": 8, "batch_size": 4, "accumulation": 1}},
        store=LocalStore(tmp_path),
        tracking_uri=client.tracking_uri,
        identity=RunIdentity(experiment="probe", key="probe/baseline", parent="probe"),
        attempt=Attempt(epoch=3),
    )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Stage | TrialUpdate]]:
    """What followers hear."""
    events: list[Stage | TrialUpdate] = []
    monkeypatch.setattr(workers, "emit", events.append)
    yield events


@pytest.fixture
def follow(
    task: Task, told: list[Stage | TrialUpdate], costs: list[Account], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Script]:
    def run(*ends: Exception | Callable[[Task], None] | None) -> Script:
        script = Script(*ends)
        monkeypatch.setattr(workers, "run_on_workers", script)
        follow_on_workers(task, Resources(), Retry(max_attempts=2), Account(), tell)
        return script

    def tell(update: TrialUpdate, account: Account) -> None:
        told.append(update)
        costs.append(account)

    return run


@pytest.fixture
def costs() -> list[Account]:
    """What the training had cost whenever followers heard of it."""
    return []


def state_of(client: MlflowClient) -> tuple[str, str, str]:
    run_id = find_run(client, "probe", "probe/baseline")
    assert run_id
    run = client.get_run(run_id)
    return run.info.status, run.data.tags[STATE_TAG], run.data.tags[REASON_TAG]


def test_a_training_is_followed_to_its_end(
    follow: Callable[..., Script], told: list[TrialUpdate], client: MlflowClient
) -> None:
    follow(reports(4, 8))
    assert [(update.state, update.step, update.miou) for update in told] == [
        ("RUNNING", 0, None),
        ("RUNNING", 4, 40.0),
        ("RUNNING", 8, 80.0),
        ("COMPLETE", 8, 80.0),
    ]
    assert state_of(client) == ("FINISHED", "COMPLETE", "")


def test_that_its_workers_wait_is_told_and_that_they_began(
    follow: Callable[..., Script], told: list[Stage | TrialUpdate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "TELL_AFTER_S", 0.0)
    monkeypatch.setattr(workers, "_LOOKS", 100)

    def stages() -> list[str]:
        return [event.text for event in told if isinstance(event, Stage)]

    def late(task: Task) -> None:
        wait_for(lambda: len(stages()) == 1)
        Heart(task.own, task.attempt, lambda: 0, lambda: None, "").stop()
        wait_for(lambda: len(stages()) == 2)
        reports(8)(task)

    follow(late)
    assert stages() == [
        "probe/baseline waits for CPUs or GPUs that something else holds, or its worker is slow to start",
        "probe/baseline has begun",
    ]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_it_has_cost_is_told_with_every_report_and_at_the_end(
    follow: Callable[..., Script], costs: list[Account]
) -> None:
    def beaten(step: int, run_id: str) -> Callable[[Task], None]:
        def run(task: Task) -> None:
            reports(step)(task)
            attempt = task.attempt
            said = Beat(
                epoch=attempt.epoch, attempt=attempt.number, step=step, seconds=1.5, pid=1, node="", run_id=run_id
            )
            (task.own.folder / FILE).write_text(json.dumps(asdict(said)))
            if step < 8:
                raise WorkerGroupError("", {0: LOST})

        return run

    follow(beaten(4, "r"), beaten(8, "r"))
    assert [account.attempts for account in costs] == [1, 1, 2, 2, 2, 2]
    last = costs[-1]
    assert (last.lost, last.counted, last.run_id, last.lost_steps) == (1, 2, "r", 4)
    assert last.device_seconds == 3.0


def test_losses_of_a_driver_before_do_not_count_against_this_one(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(LOST, reports(8))
    monkeypatch.setattr(workers, "run_on_workers", script)
    told: list[Account] = []
    follow_on_workers(
        task, Resources(), Retry(max_attempts=2), Account(lost=5), lambda update, account: told.append(account)
    )
    assert told[-1].lost == 6


def test_a_lost_worker_is_replaced_by_a_newer_attempt(
    follow: Callable[..., Script], told: list[Stage], client: MlflowClient
) -> None:
    script = follow(LOST, reports(8))
    assert [task.attempt for task in script.attempts] == [Attempt(epoch=3, number=1), Attempt(epoch=3, number=2)]
    (stage,) = [event for event in told if isinstance(event, Stage)]
    assert stage.text.startswith("probe/baseline is tried again: worker lost: ")
    assert state_of(client)[1] == "COMPLETE"


def test_attempts_count_on_from_those_of_a_driver_before(follow: Callable[..., Script], task: Task) -> None:
    Lease(task.own, Attempt(epoch=2, number=4)).take()
    assert follow(reports(8)).attempts[0].attempt == Attempt(epoch=3, number=5)


def test_workers_that_are_lost_too_often_are_the_end(follow: Callable[..., Script], client: MlflowClient) -> None:
    with pytest.raises(UserError, match="worker lost too often: 2 times"):
        follow(LOST, LOST)
    status, state, reason = state_of(client)
    assert (status, state) == ("FAILED", "FAIL")
    assert reason.startswith("worker lost too often: 2 times")


def test_a_pre_empted_training_goes_on_however_often_later_and_later(
    follow: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(workers.time, "sleep", pauses.append)
    assert len(follow(*[PreemptedError("saved")] * 5, reports(8)).attempts) == 6
    assert pauses == [0, 3, 9, 27, 30]


def test_one_whose_node_did_not_wait_for_it_to_save_is_pre_empted_and_not_lost(
    follow: Callable[..., Script], costs: list[Account]
) -> None:
    def asked(task: Task) -> None:
        said = Failure(kind=Kind.PREEMPTED, text="asked to stop, and ended before it had saved")
        Heart(task.own, task.attempt, lambda: 4, lambda: None, "").stop(said)
        raise WorkerGroupError("", {0: LOST})

    follow(asked, reports(8))
    assert costs[-1].lost == 0


def test_memory_that_runs_out_halves_the_micro_batch_once(follow: Callable[..., Script]) -> None:
    script = follow(MEMORY, LOST, reports(8))
    assert [task.spec["trainer"]["accumulation"] for task in script.attempts] == [1, 2, 2]
    assert [task.halvings for task in script.attempts] == [0, 1, 1]
    assert ACCUMULATION_TAG in script.attempts[-1].identity.tags
    with pytest.raises(UserError, match="out of memory: CUDA out of memory"):
        follow(MEMORY, MEMORY)


def test_a_micro_batch_that_was_halved_stays_so_for_the_next_driver(follow: Callable[..., Script], task: Task) -> None:
    Lease(task.own, Attempt(epoch=2, number=2)).take()
    Heart(task.own, Attempt(epoch=2, number=2), lambda: 4, lambda: None, "", halvings=1).stop()
    (followed,) = follow(reports(8)).attempts
    assert (followed.halvings, followed.spec["trainer"]["accumulation"]) == (1, 2)
    with pytest.raises(UserError, match="out of memory"):
        follow(MEMORY)


def test_a_diverged_training_is_not_tried_again(follow: Callable[..., Script], client: MlflowClient) -> None:
    with pytest.raises(DivergedError, match="diverged: loss/ce at step 5"):
        follow(NonFiniteLossError("loss/ce at step 5"))
    assert state_of(client) == ("FAILED", "FAIL", "diverged: loss/ce at step 5")


class TestEnvironment:
    """A full disk, which says nothing of the training."""

    FULL = OSError(errno.ENOSPC, "No space left on device", "/runs")

    @pytest.fixture(autouse=True)
    def pauses(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        """How long it waited between two tries."""
        pauses: list[float] = []
        monkeypatch.setattr(workers.time, "sleep", pauses.append)
        return pauses

    def test_is_waited_for_and_costs_no_attempt_that_counts(
        self, follow: Callable[..., Script], costs: list[Account], pauses: list[float]
    ) -> None:
        follow(self.FULL, self.FULL, reports(8))
        assert pauses == [3, 9]
        assert costs[-1].lost == 0

    def test_that_stays_broken_stops_the_training_and_leaves_it_unfinished(
        self, follow: Callable[..., Script], client: MlflowClient
    ) -> None:
        with pytest.raises(BrokenEnvironmentError) as caught:
            follow(*[self.FULL] * 5)
        words = str(caught.value)
        assert words.startswith("probe/baseline stops: 5 failures in a row with no report between them, at last on ")
        assert words.endswith("'/runs': mend that, and `advseg sweep resume probe` goes on")
        assert state_of(client) == ("KILLED", "STOPPED", words)

    def test_counts_anew_after_a_report(self, follow: Callable[..., Script]) -> None:
        def reporting(step: int) -> Callable[[Task], None]:
            def run(task: Task) -> None:
                reports(step)(task)
                raise WorkerGroupError("", {0: self.FULL})

            return run

        assert len(follow(*[self.FULL] * 4, reporting(4), *[self.FULL] * 3, reports(8)).attempts) == 9


def test_workers_that_another_driver_fenced_out_are_the_end_of_this_one(follow: Callable[..., Script]) -> None:
    with pytest.raises(FencedError, match="attempt 7 of epoch 9"):
        follow(FencedError("it belongs to attempt 7 of epoch 9 now"))


class TestHanging:
    """Workers of which nothing comes; Ray Train is scripted to end once they are killed, or interrupted."""

    @pytest.fixture(autouse=True)
    def killed(self, monkeypatch: pytest.MonkeyPatch) -> list[Beat]:
        killed: list[Beat] = []
        monkeypatch.setattr(workers, "_LOOKS", 100)
        monkeypatch.setattr(workers, "_KILL_S", 0.05)
        monkeypatch.setattr(workers, "kill_beating", killed.append)
        return killed

    @pytest.fixture
    def begin(self, task: Task, told: list[Stage], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Script]:
        def run(*ends: Callable[[Task], None], **limits: float) -> Script:
            script = Script(*ends)
            monkeypatch.setattr(workers, "run_on_workers", script)
            follow_on_workers(task, Resources(), Retry.model_validate(limits), Account())
            return script

        return run

    def test_are_killed_and_replaced(self, begin: Callable[..., Script], killed: list[Beat], told: list[Stage]) -> None:
        def hang(task: Task) -> None:
            Heart(task.own, task.attempt, lambda: 4, lambda: None, "").stop()
            deadline = time.monotonic() + 30
            while not killed:
                assert time.monotonic() < deadline
                threading.Event().wait(0.005)
            raise WorkerGroupError("", {0: LOST})

        assert len(begin(hang, reports(8), hang_timeout=0.2).attempts) == 2
        assert [beat.attempt for beat in killed] == [1]
        (stage,) = [event for event in told if isinstance(event, Stage)]
        assert stage.text == "probe/baseline is tried again: hung: no progress in 0.2 s after step 4"

    def test_are_given_up_if_ray_does_not_notice_that_they_were_killed(self, begin: Callable[..., Script]) -> None:
        def hang(task: Task) -> None:
            Heart(task.own, task.attempt, lambda: 4, lambda: None, "").stop()
            threading.Event().wait(30)

        assert len(begin(hang, reports(8), hang_timeout=0.2).attempts) == 2

    def test_are_the_environments_failure_if_they_never_begin(self, begin: Callable[..., Script]) -> None:
        def wait(task: Task) -> None:
            threading.Event().wait(30)

        with pytest.raises(BrokenEnvironmentError, match=r"it did not begin within 0\.2 s"):
            begin(wait, start_timeout=0.2, stop_after=1)

    def test_are_ended_if_their_ledger_is_anothers(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        def tell(update: TrialUpdate, account: Account) -> None:
            if update.miou is not None:
                raise FencedError("another process has taken this sweep over")

        def report_and_go_on(task: Task) -> None:
            reports(4)(task)
            threading.Event().wait(30)

        monkeypatch.setattr(workers, "run_on_workers", Script(report_and_go_on))
        with pytest.raises(FencedError, match="taken this sweep over"):
            follow_on_workers(task, Resources(), Retry(), Account(), tell)


def test_an_interrupt_stops_the_run(follow: Callable[..., Script], client: MlflowClient) -> None:
    def interrupt(task: Task) -> None:
        reports(4)(task)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(interrupt)
    assert state_of(client) == ("KILLED", "STOPPED", "stopped from outside")


@pytest.mark.parametrize(
    "error", [FencedError("it belongs to attempt 2 of epoch 4 now"), LOST, KeyboardInterrupt()], ids=repr
)
def test_the_run_of_a_training_that_another_driver_took_over_is_left_to_it(
    follow: Callable[..., Script], client: MlflowClient, task: Task, error: BaseException
) -> None:
    run_id = ensure_run(client, task.identity)

    def is_taken_over(mine: Task) -> None:
        Lease(task.own, Attempt(epoch=4, number=2)).take()
        raise error if isinstance(error, KeyboardInterrupt) else WorkerGroupError("", {0: error})

    with pytest.raises(FencedError, match="belongs to attempt 2 of epoch 4 now"):
        follow(is_taken_over, FencedError("it is another's"))
    assert client.get_run(run_id).info.status == "RUNNING"
