"""What Tune hears of a trial that trains in its own process."""

from collections.abc import Generator

import pytest

from advseg.platform.base.keys import FAILURE, KIND
from advseg.platform.sweep.trials import InProcess
from advseg.trainers.errors import DivergedError
from advseg.trainers.reporter import Report


def breaking(error: Exception) -> InProcess:
    """A trial that breaks before its first report."""

    def reports() -> Generator[Report]:
        raise error
        yield

    trial = object.__new__(InProcess)
    trial._reports = reports()
    return trial


class TestStep:
    def test_reports_a_failure_so_that_the_process_may_serve_another_trial(self) -> None:
        result = breaking(DivergedError("the loss became NaN or infinite at step 3")).step()
        assert (result[KIND], result[FAILURE]) == ("diverged", "the loss became NaN or infinite at step 3")

    def test_raises_when_memory_ran_out_so_that_the_next_attempt_gets_a_fresh_process(self) -> None:
        with pytest.raises(MemoryError):
            breaking(MemoryError()).step()
