"""When a job stops for what its trainings run on."""

import pytest

from advseg.platform.spec.retry import Retry
from advseg.platform.workers.health import Health
from advseg.platform.workers.retry import Failure, Kind

RETRY = Retry(stop_after=3)
DISK = Failure(kind=Kind.ENVIRONMENT, text="on node-7: no space left")
BUG = Failure(kind=Kind.ERROR, text="ValueError: odd")


def after(*events: tuple[int, Failure] | None, given_up: bool = False) -> Health:
    """Failures of trials, and reports (None)."""
    health = Health()
    for event in events:
        health = health.failed(*event, given_up=given_up) if event else health.heard()
    return health


class TestAilment:
    def test_is_a_trial_that_the_environment_ended_again_and_again(self) -> None:
        assert after((0, DISK), (0, DISK)).ailment(RETRY) is None
        assert after((0, DISK), (0, DISK), (0, DISK)).ailment(RETRY) == (
            "3 failures in a row with no report between them, at last on node-7: no space left"
        )

    def test_is_none_after_a_report_of_any_trial(self) -> None:
        assert after((0, DISK), (0, DISK), None, (0, DISK), (0, DISK)).ailment(RETRY) is None

    def test_is_none_of_several_trials_that_one_short_fault_ended_together(self) -> None:
        assert after((0, DISK), (1, DISK), (2, DISK), (3, DISK)).ailment(RETRY) is None

    def test_is_one_error_of_all_first_trials(self) -> None:
        assert after((0, BUG), (1, BUG), given_up=True).ailment(RETRY) is None
        assert after((0, BUG), (1, BUG), (2, BUG), given_up=True).ailment(RETRY) == (
            "3 trials failed alike before any had reported, at last ValueError: odd"
        )

    def test_is_one_error_also_if_it_names_other_numbers(self) -> None:
        errors = [Failure(kind=Kind.ERROR, text=f"a tensor of {size} at 0x{size}ff") for size in (3, 17, 256)]
        assert after(*enumerate(errors), given_up=True).ailment(RETRY)

    def test_is_none_of_errors_that_differ(self) -> None:
        errors = [Failure(kind=Kind.ERROR, text=text) for text in ("a", "b", "a", "b")]
        assert after(*enumerate(errors), given_up=True).ailment(RETRY) is None

    @pytest.mark.parametrize("kind", [Kind.DIVERGED, Kind.BAD_VALUE, Kind.TIMEOUT])
    def test_is_none_of_trials_that_went_wrong_by_their_own_points(self, kind: Kind) -> None:
        own = Failure(kind=kind, text="loss/ce at step 5")
        assert after((0, own), (1, own), (2, own), given_up=True).ailment(RETRY) is None

    def test_is_none_of_errors_after_a_first_report(self) -> None:
        assert after(None, (0, BUG), (1, BUG), (2, BUG), given_up=True).ailment(RETRY) is None

    def test_is_none_of_workers_that_are_lost_and_replaced(self) -> None:
        lost = Failure(kind=Kind.LOST, text="it died")
        assert after(*[(0, lost)] * 9).ailment(RETRY) is None


def test_between_two_tries_it_waits_longer_and_longer_but_not_for_ever() -> None:
    pauses = [after(*[(0, DISK)] * times).backoff_s(0) for times in range(6)]
    assert pauses == [0, 3, 9, 27, 30, 30]
    assert after((0, DISK)).backoff_s(1) == 0


class TestPreemptions:
    GONE = Failure(kind=Kind.PREEMPTED, text="asked to stop, and saved at step 3")

    def test_without_progress_between_them_are_waited_out_and_one_alone_is_not(self) -> None:
        pauses = [after(*[(0, self.GONE)] * times).backoff_s(0) for times in range(6)]
        assert pauses == [0, 0, 3, 9, 27, 30]

    def test_count_anew_after_a_report(self) -> None:
        assert after((0, self.GONE), (0, self.GONE), None, (0, self.GONE)).backoff_s(0) == 0

    def test_are_no_ailment_however_many(self) -> None:
        assert after(*[(0, self.GONE)] * 9).ailment(RETRY) is None
