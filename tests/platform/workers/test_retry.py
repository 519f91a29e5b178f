import pytest

from advseg.platform.spec.retry import Retry
from advseg.platform.workers.account import Account
from advseg.platform.workers.retry import Again, Failure, GiveUp, Kind, can_halve, decide, error_of
from advseg.trainers.errors import DivergedError, UserError

RETRY = Retry(max_attempts=3)


@pytest.mark.parametrize(
    ("kind", "before", "halvable", "expected"),
    [
        # A lost worker is told from a hung one by its words alone.
        (Kind.LOST, Account(), False, Again(account=Account(lost=1))),
        (Kind.LOST, Account(lost=1), False, Again(account=Account(lost=2))),
        (Kind.LOST, Account(lost=2), True, "worker lost too often: 3 times, at last because"),
        (Kind.HUNG, Account(), False, Again(account=Account(lost=1))),
        (Kind.HUNG, Account(lost=2), True, "worker lost too often: 3 times, at last because"),
        # However often: the machine took it away, and it had saved.
        (Kind.PREEMPTED, Account(attempts=99, lost=2), False, Again(account=Account(attempts=99, lost=2))),
        # However often, too: whether the sweep goes on is another question.
        (Kind.ENVIRONMENT, Account(attempts=99, lost=2), False, Again(account=Account(attempts=99, lost=2))),
        (Kind.OUT_OF_MEMORY, Account(lost=2), True, Again(account=Account(lost=2, halvings=1))),
        (Kind.OUT_OF_MEMORY, Account(halvings=1), True, "out of memory: because"),
        (Kind.OUT_OF_MEMORY, Account(), False, "out of memory: because"),
        (Kind.DIVERGED, Account(), True, "diverged: because"),
        (Kind.BAD_VALUE, Account(), True, "bad value: because"),
        (Kind.TIMEOUT, Account(), True, "timeout: because"),
        (Kind.ERROR, Account(), True, "because"),
    ],
)
def test_what_becomes_of_a_trial_follows_from_its_failure_and_its_past(
    kind: Kind, before: Account, halvable: bool, expected: Again | str
) -> None:
    decision = decide(Failure(kind=kind, text="because"), before, RETRY, can_halve=halvable)
    if isinstance(expected, Again):
        assert decision == expected
    else:
        assert isinstance(decision, GiveUp)
        assert decision.reason == expected


def test_a_trial_that_is_given_up_for_lost_workers_has_the_last_one_counted() -> None:
    decision = decide(Failure(kind=Kind.LOST, text="it died"), Account(lost=2), RETRY, can_halve=True)
    assert decision.account == Account(lost=3)


def test_with_a_single_attempt_a_lost_worker_is_the_end() -> None:
    decision = decide(Failure(kind=Kind.LOST, text="it died"), Account(), Retry(max_attempts=1), can_halve=True)
    assert isinstance(decision, GiveUp)
    assert decision.reason == "worker lost too often: 1 times, at last it died"


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "workers", "possible"),
    [
        (4, 1, 1, True),
        (2, 1, 1, True),
        (1, 1, 1, False),
        (3, 1, 1, False),
        (6, 2, 1, False),
        (4, 4, 1, False),
        (4, 1, 2, True),
        (4, 1, 3, False),
        (8, 2, 2, True),
        (8, 4, 2, False),
    ],
)
def test_a_part_of_a_batch_is_halved_if_each_worker_still_has_an_image_of_it(
    batch_size: int, accumulation: int, workers: int, possible: bool
) -> None:
    trainer = {"batch_size": batch_size, "accumulation": accumulation}
    assert can_halve(trainer, workers) is possible
    assert can_halve({**trainer, "unlabelled_batch_size": None}, workers) is possible
    assert can_halve({**trainer, "unlabelled_batch_size": 3 * batch_size}, workers) is possible
    assert not can_halve({**trainer, "unlabelled_batch_size": accumulation}, workers)


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (Failure(kind=Kind.PREEMPTED), "pre-empted"),
        (Failure(kind=Kind.DIVERGED, text="loss/ce at step 5"), "diverged: loss/ce at step 5"),
        (Failure(kind=Kind.ERROR, text="no such key"), "no such key"),
        (Failure(kind=Kind.ENVIRONMENT, text="on node-7: no such file"), "on node-7: no such file"),
    ],
)
def test_a_failure_is_told_by_its_kind_and_its_words(failure: Failure, text: str) -> None:
    assert str(failure) == text


@pytest.mark.parametrize(("kind", "error"), [(Kind.DIVERGED, DivergedError), (Kind.ERROR, UserError)])
def test_a_job_whose_training_is_given_up_ends_as_the_kind_demands(kind: Kind, error: type[Exception]) -> None:
    raised = error_of(Failure(kind=kind), "because")
    assert isinstance(raised, error)
    assert str(raised) == "because"


@pytest.mark.parametrize("kind", Kind)
def test_a_process_serves_another_trial_only_after_one_that_went_wrong_by_its_numbers(kind: Kind) -> None:
    assert kind.spares_the_process is (kind in {Kind.DIVERGED, Kind.BAD_VALUE})
