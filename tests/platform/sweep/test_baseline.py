"""The supervised baseline as the ledger holds it; its workers are scripted here."""

from collections.abc import Callable

import pytest
from optuna.trial import TrialState

from advseg.platform.base.events import TrialUpdate
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.rows import Row
from advseg.platform.spec.resources import Resources
from advseg.platform.spec.retry import Retry
from advseg.platform.spec.spec import Spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.sweep import baseline
from advseg.platform.sweep.baseline import train_baseline
from advseg.platform.sweep.tasks import SweepTasks
from advseg.platform.workers.account import Account
from advseg.platform.workers.followed import Tell
from advseg.platform.workers.task import Task
from advseg.trainers.errors import DivergedError

Train = Callable[..., Row]


def update(state: str, step: int, miou: float | None, reason: str = "") -> TrialUpdate:
    return TrialUpdate(key="probe/baseline", state=state, step=step, steps=8, miou=miou, reason=reason)


REPORTS = [update("RUNNING", 0, None), update("RUNNING", 4, 40.0), update("RUNNING", 8, 80.0)]


@pytest.fixture
def ledger(make_spec: Callable[..., Spec], opened: Callable[..., Ledger]) -> Ledger:
    return opened(make_spec())


@pytest.fixture
def train(ledger: Ledger, tmp_path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train the baseline of a ledger on workers that tell what the test says."""
    monkeypatch.setattr(baseline, "emit", lambda _: None)

    def run(*updates: TrialUpdate, error: Exception | None = None, of: Ledger = ledger) -> Row:
        def follow(task: Task, resources: Resources, retry: Retry, account: Account, tell: Tell) -> None:
            for number, each in enumerate(updates, start=1):
                tell(each, Account(attempts=account.attempts + 1, device_seconds=account.device_seconds + number))
            if error:
                raise error

        monkeypatch.setattr(baseline, "follow_on_workers", follow)
        document = of.spec.model_dump(mode="json")
        tasks = SweepTasks(document=document, store=LocalStore(tmp_path), tracking_uri="", epoch=1)
        return train_baseline(of, tasks.baseline(), Resources(), Retry())

    return run


def test_is_held_with_its_curve_and_cost(train: Train, ledger: Ledger) -> None:
    row = train(*REPORTS, update("COMPLETE", 8, 80.0))
    assert (row.state, row.curve, row.value) == (TrialState.COMPLETE, {4: 40.0, 8: 80.0}, 80.0)
    assert (row.account.attempts, row.account.device_seconds) == (1, 4.0)
    assert ledger.baseline() == row


def test_that_is_complete_is_not_trained_again(train: Train) -> None:
    row = train(*REPORTS, update("COMPLETE", 8, 80.0))
    assert train(error=AssertionError("it trained")) == row


def test_that_diverged_says_why_and_may_be_tried_again(train: Train, ledger: Ledger) -> None:
    with pytest.raises(DivergedError):
        train(*REPORTS[:2], update("FAIL", 4, 40.0, "diverged: loss/ce"), error=DivergedError("diverged: loss/ce"))
    assert (ledger.baseline().state, ledger.baseline().reason) == (TrialState.FAIL, "diverged: loss/ce")
    row = train(*REPORTS, update("COMPLETE", 8, 80.0))
    assert (row.state, row.reason, row.account.attempts) == (TrialState.COMPLETE, "", 2)
    assert row.account.device_seconds == 3 + 4


def test_that_was_stopped_is_not_over(
    train: Train, make_spec: Callable[..., Spec], opened: Callable[..., Ledger]
) -> None:
    train(*REPORTS[:2], update("STOPPED", 4, 40.0, "stopped from outside"))
    again = opened(make_spec())
    assert again.baseline().state is TrialState.RUNNING
    assert train(*REPORTS, update("COMPLETE", 8, 80.0), of=again).state is TrialState.COMPLETE


def test_of_a_new_sweep_waits(ledger: Ledger) -> None:
    assert (ledger.baseline().state, ledger.baseline().value) == (TrialState.WAITING, None)


def test_trains_without_the_method(ledger: Ledger, tmp_path) -> None:
    document = ledger.spec.model_dump(mode="json")
    task = SweepTasks(document=document, store=LocalStore(tmp_path), tracking_uri="", epoch=1).baseline()
    assert task.spec["method"] == {"name": "supervised"}
    assert task.spec["trainer"] == document["trainer"]
    assert task.key == "probe/baseline"
