"""What Tune hears of a trial that trains in its own process."""

import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from ray.exceptions import RayActorError
from ray.tune import TuneError
from ray.tune.experiment import Trial

from advseg.platform.base.keys import FAILURE, KIND
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.patience import LedgerAwayError
from advseg.platform.spec.spec import Spec
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.storage.store import StoreError
from advseg.platform.sweep.attempts import Attempts
from advseg.platform.sweep.trials import InProcess, _cause_of, _stopped_by_signal, _wait
from advseg.platform.sweep.tune_environment import TUNE
from advseg.platform.workers.retry import Failure, Kind
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


@pytest.mark.parametrize("preempted", [False, True])
def test_tune_tries_nothing_again_by_itself_also_not_what_a_drained_node_took_along(
    preempted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in TUNE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Trial, "local_path", None)
    trial = Trial("probe", stub=True, max_failures=0)
    trial.handle_error(RayActorError(preempted=preempted))
    assert not trial.should_recover()


@pytest.fixture
def attempts(make_spec: Callable[..., Spec], opened: Callable[..., Ledger], tmp_path: Path) -> Attempts:
    spec = make_spec()
    return Attempts(opened(spec), spec, LocalStore(tmp_path), 2, lambda update: None)


def test_an_interrupt_stops_the_attempts_and_tells_tune(attempts: Attempts) -> None:
    told: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    with _stopped_by_signal(attempts):
        signal.signal(signal.SIGUSR1, lambda number, frame: told.append(number))
        os.kill(os.getpid(), signal.SIGINT)
    assert attempts.is_stopped
    assert told == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_pause_ends_at_an_interrupt_and_asks_meanwhile_whose_the_sweep_is(attempts: Attempts) -> None:
    attempts.next()
    attempts.fail(0, Failure(kind=Kind.ENVIRONMENT, text="no space left"))
    assert attempts.pause_s > 1
    asked: list[bool] = []

    def check() -> None:
        asked.append(True)
        attempts.stop()

    _wait(attempts, check)
    assert asked == [True]

    def fenced() -> None:
        raise FencedError("it is another's")

    attempts._is_stopped = False
    with pytest.raises(FencedError):
        _wait(attempts, fenced)


@pytest.mark.parametrize("raised", [FencedError, StoreError, LedgerAwayError])
def test_what_a_callback_raised_is_found_in_what_tune_makes_of_it(raised: type[Exception]) -> None:
    def fail() -> None:
        try:
            raise raised("in a line")
        except raised:
            try:
                # What Tune then tells of a trial that the searcher has closed already.
                raise KeyError(0)
            except KeyError:
                raise TuneError("Traceback ...")  # noqa: B904

    with pytest.raises(TuneError) as caught:
        fail()
    cause = _cause_of(caught.value)
    assert (type(cause), str(cause)) == (raised, "in a line")
    other = TuneError("Trials did not complete")
    assert _cause_of(other) is other
