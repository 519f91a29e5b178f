"""Trainings on fresh seeds: handed out and held as trials are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from advseg.platform.ledger.confirmations import Planned
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.reading import read_sweep
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.sweep.attempts import Attempts
from advseg.platform.sweep.confirmations import Confirmations
from advseg.platform.sweep.tasks import SweepTasks
from advseg.platform.workers.account import Account
from advseg.platform.workers.retry import Failure, Kind
from advseg.trainers.errors import FencedError


@pytest.fixture
def ledger(make_spec: Callable[..., Any], opened: Callable[..., Ledger]) -> Ledger:
    return opened(make_spec())


def planned(ledger: Ledger, *names: str) -> list[Planned]:
    document = ledger.spec.model_dump(mode="json")
    return [Planned(name=name, spec=document) for name in names]


@pytest.fixture
def book(ledger: Ledger) -> Confirmations:
    return Confirmations(ledger, planned(ledger, "confirm-0-s1", "confirm-baseline-s1"))


def test_are_handed_out_in_their_order_once(book: Confirmations) -> None:
    numbers = [book.propose() for _ in range(3)]
    assert [number and book.trial_of(number) for number in numbers] == ["confirm-0-s1", "confirm-baseline-s1", None]
    assert book.unfinished() == numbers[:2]
    assert [book.number_of(str(row.trial)) for row in book.rows()] == numbers[:2]


@pytest.mark.parametrize("ledger_address", ["sqlite", "postgresql"], indirect=True)
def test_are_held_for_whoever_comes_next(book: Confirmations, ledger: Ledger) -> None:
    first, second = book.propose(), book.propose()
    assert first and second
    book.report(first, 2, 40.0)
    book.report(first, 4, 41.0)
    book.report(first, 2, 99.0)
    book.note(first, Account(attempts=2, device_seconds=3.0))
    book.finish(first, TrialState.COMPLETE)
    book.finish(first, TrialState.FAIL, "too late")
    book.finish(second, TrialState.FAIL, "diverged")
    again = Confirmations(ledger, planned(ledger, "confirm-baseline-s1", "confirm-0-s1", "confirm-0-s2"))
    assert again.rows()[:2] == book.rows()
    row = again.row(first)
    assert (row.state, row.value, row.account.attempts) == (TrialState.COMPLETE, 41.0, 2)
    assert [row.trial for row in again.rows() if row.state is TrialState.WAITING] == ["confirm-0-s2"]


def test_one_of_which_a_step_was_reported_goes_on(book: Confirmations, ledger: Ledger) -> None:
    number = book.propose()
    assert number
    book.report(number, 2, 40.0)
    again = Confirmations(ledger, planned(ledger, "confirm-0-s1"))
    assert again.unfinished() == [number]
    assert again.row(number).curve == {2: 40.0}


def test_one_without_a_finite_value_failed(book: Confirmations) -> None:
    number = book.propose()
    assert number
    book.finish(number, TrialState.COMPLETE)
    assert (book.row(number).state, book.row(number).reason) == (TrialState.FAIL, "bad value: None")


def test_one_that_is_not_wanted_is_passed_over(book: Confirmations) -> None:
    book.is_wanted = lambda name: "baseline" in name
    number = book.propose()
    assert number and book.trial_of(number) == "confirm-baseline-s1"
    assert book.propose() is None


def test_are_no_trials(book: Confirmations, ledger: Ledger, tmp_path: Path) -> None:
    book.propose()
    assert ledger.rows() == []
    record = read_sweep(tmp_path, ledger.spec.name, ledger.spec.ledger)
    assert record.rows == []
    assert [row.trial for row in record.confirmations] == ["confirm-0-s1", "confirm-baseline-s1"]


def test_a_former_owner_writes_none(book: Confirmations, ledger: Ledger) -> None:
    number = book.propose()
    assert number
    ledger.ownership.epoch -= 1
    for write in (
        lambda: book.report(number, 2, 40.0),
        lambda: book.finish(number, TrialState.FAIL, "x"),
        lambda: Confirmations(ledger, planned(ledger, "confirm-9-s9")),
    ):
        with pytest.raises(FencedError):
            write()


def test_are_trained_as_they_were_planned(ledger: Ledger, tmp_path: Path) -> None:
    (plan,) = planned(ledger, "confirm-0-s1")
    plan.spec["trainer"] |= {"seed": 7, "batch_size": 6}
    book = Confirmations(ledger, [plan])
    number = book.propose()
    assert number
    document = ledger.spec.model_dump(mode="json")
    tasks = SweepTasks(
        document=document, store=LocalStore(tmp_path), tracking_uri="", epoch=1, planned=ledger.planned()
    )
    task = tasks.of(book.row(number))
    assert book.trainer(number)["batch_size"] == 6
    assert (task.key, task.spec["trainer"]["seed"]) == (f"{ledger.spec.name}/confirm-0-s1", 7)


def test_one_that_broke_is_tried_again_as_a_trial_is(book: Confirmations, ledger: Ledger, tmp_path: Path) -> None:
    clock = iter(range(0, 10_000, 100))
    told: list[str] = []
    attempts = Attempts(
        book, ledger.spec, LocalStore(tmp_path), 1, lambda update: told.append(update.key), clock=lambda: next(clock)
    )
    row = attempts.next()
    assert row and row.trial == "confirm-0-s1"
    assert attempts.report(row.number, 2, 40.0)
    attempts.fail(row.number, Failure(kind=Kind.LOST, text="its worker process died"))
    again = attempts.next()
    assert again and (again.number, again.account.attempts, again.account.lost) == (row.number, 2, 1)
    attempts.report(again.number, 8, 41.0)
    attempts.complete(again.number)
    assert book.row(row.number).state is TrialState.COMPLETE
    other = attempts.next()
    assert other and other.trial == "confirm-baseline-s1"
    attempts.fail(other.number, Failure(kind=Kind.DIVERGED, text="diverged"))
    assert attempts.next() is None
    assert attempts.spent
    assert {f"probe/{name}" for name in ("confirm-0-s1", "confirm-baseline-s1")} == set(told)
