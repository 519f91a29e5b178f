"""What Tune hears of a trial that trains in its own process."""

from collections.abc import Generator

import pytest
from ray.tune import TuneError

from advseg.platform.base.keys import FAILURE, KIND
from advseg.platform.sweep.trials import InProcess, _cause_of
from advseg.trainers.errors import DivergedError, FencedError
from advseg.trainers.reporter import Report


def breaking(error: Exception) -> InProcess:
    """A trial that breaks before its first report."""

    def reports() -> Generator[Report]:
        raise error
        yield

    trial = object.__new__(InProcess)
    trial._reports, trial._broken = reports(), None
    return trial


class TestStep:
    def test_reports_a_divergence_so_that_the_process_may_serve_another_trial(self) -> None:
        trial = breaking(DivergedError("the loss became NaN or infinite at step 3"))
        result = trial.step()
        assert (result[KIND], result[FAILURE]) == ("diverged", "the loss became NaN or infinite at step 3")
        assert trial._broken is None

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (MemoryError(), "out of memory"),
            (RuntimeError("CUDA error: an illegal memory access was encountered"), "environment"),
            (OSError(28, "No space left on device"), "environment"),
            (ValueError("odd"), "error"),
            (FencedError("it is another's"), "fenced"),
        ],
        ids=repr,
    )
    def test_reports_any_other_failure_and_raises_then_so_that_the_process_serves_no_other(
        self, error: Exception, kind: str
    ) -> None:
        trial = breaking(error)
        assert trial.step()[KIND] == kind
        with pytest.raises(RuntimeError, match="told already"):
            trial.step()


def test_what_a_callback_raised_is_found_in_what_tune_makes_of_it() -> None:
    def fail() -> None:
        try:
            raise FencedError("it is another's")
        except FencedError:
            raise TuneError("Traceback ...")  # noqa: B904

    with pytest.raises(TuneError) as caught:
        fail()
    cause = _cause_of(caught.value)
    assert (type(cause), str(cause)) == (FencedError, "it is another's")
    other = TuneError("Trials did not complete")
    assert _cause_of(other) is other
