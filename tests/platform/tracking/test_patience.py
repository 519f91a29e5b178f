import threading
import time
from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
    UNAUTHENTICATED,
)

from advseg.platform.cluster.submit import _STOP_WAIT_S
from advseg.platform.tracking.ending import Ending, State
from advseg.platform.tracking.patience import STOP_S, TrackingError, close, is_away, patiently, unless_refused
from advseg.trainers.errors import FencedError, UserError

AWAY = [
    MlflowException("API request failed with exception: connection refused"),
    MlflowException("busy", error_code=TEMPORARILY_UNAVAILABLE),
    requests.ConnectionError("connection refused"),
]


def failing(error: Exception, times: int) -> Any:
    """Work that fails some times, then gives how often it was tried."""
    tries = 0

    def work() -> int:
        nonlocal tries
        tries += 1
        if tries <= times:
            raise error
        return tries

    return work


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
def test_what_mlflow_did_not_answer_is_done_again(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    assert patiently(failing(error, 3), retry_s=0) == 4
    assert caplog.text.count("MLflow does not answer, trying again") == 3


def http_error(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} of an artifact store", response=response)


class StoreError(Exception):
    """As boto raises it."""

    def __init__(self, status: int) -> None:
        super().__init__("an artifact store's own")
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


REFUSED = [
    *(
        MlflowException("refused", error_code=code)
        for code in (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE, PERMISSION_DENIED, UNAUTHENTICATED)
    ),
    *map(http_error, (400, 401, 403, 404, 413)),
    *map(StoreError, (403, 404)),
    FileNotFoundError("gone before it was sent"),
    PermissionError("not to be read"),
    UserError("the experiment is deleted"),
]


@pytest.mark.parametrize(
    "error", [*AWAY, http_error(500), http_error(503), http_error(429), StoreError(503), OSError()]
)
def test_a_server_in_trouble_is_away(error: Exception) -> None:
    assert is_away(error)


@pytest.mark.parametrize("error", REFUSED)
def test_what_will_not_change_is_a_refusal(error: Exception) -> None:
    assert not is_away(error)


@pytest.mark.parametrize(
    ("code", "user", "said"),
    [
        (UNAUTHENTICATED, None, "it does not know who asks: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD "),
        (UNAUTHENTICATED, "me", "it does not know me by this password: MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING"),
        (PERMISSION_DENIED, "me", "Permission denied: me may not do that there, unless an admin of that MLflow "),
        (RESOURCE_DOES_NOT_EXIST, "me", "Permission denied"),
    ],
)
def test_an_account_that_mlflow_refuses_is_told_with_the_remedy(
    code: int, user: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    if user:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    with pytest.raises(TrackingError) as told:
        patiently(failing(MlflowException("Permission\ndenied", error_code=code), 1))
    assert str(told.value).startswith(f"MLflow refuses: {said}")


def test_what_mlflow_refuses_is_not_done_again() -> None:
    work = failing(MlflowException("no such run", error_code=RESOURCE_DOES_NOT_EXIST), 1)
    with pytest.raises(TrackingError, match=r"^MLflow refuses: no such run$"):
        patiently(work, retry_s=0)
    assert work() == 2


def test_patience_ends() -> None:
    with pytest.raises(TrackingError, match=r"^MLflow does not answer: .*connection refused$"):
        patiently(failing(AWAY[0], 10**9), patience_s=0.05, retry_s=0.01)


def test_what_is_refused_is_told_where_it_may_be_missing(caplog: pytest.LogCaptureFixture) -> None:
    unless_refused(failing(MlflowException("read only", error_code=INVALID_PARAMETER_VALUE), 1), "the model")
    assert caplog.messages == ["MLflow does not have the model: MLflow refuses: read only"]


def test_what_is_wrong_with_the_work_itself_stays_an_error() -> None:
    with pytest.raises(UserError, match=r"^its checkpoint is gone$"):
        unless_refused(failing(UserError("its checkpoint is gone"), 1), "the model")


class TestClosing:
    @pytest.mark.parametrize("state", State)
    def test_is_done(self, state: State) -> None:
        work = failing(AWAY[0], 0)
        close(work, Ending(state), "the end of probe")
        assert work() == 2

    @pytest.mark.parametrize("state", State)
    def test_that_is_refused_is_told_and_fails_nothing(self, state: State, caplog: pytest.LogCaptureFixture) -> None:
        close(
            failing(MlflowException("read only", error_code=INVALID_PARAMETER_VALUE), 1),
            Ending(state),
            "the end of probe",
        )
        assert caplog.messages == ["MLflow does not have the end of probe: MLflow refuses: read only"]

    @pytest.mark.parametrize("state", State)
    def test_of_what_another_process_owns_is_an_error(self, state: State) -> None:
        with pytest.raises(FencedError):
            close(failing(FencedError("another's"), 1), Ending(state), "the end of probe")

    def test_after_a_request_to_stop_ends_though_mlflow_never_answers(self, caplog: pytest.LogCaptureFixture) -> None:
        release, began = threading.Event(), time.monotonic()
        close(release.wait, Ending(State.STOPPED), "the end of probe", stop_s=0.1)
        assert time.monotonic() - began < 10
        release.set()
        assert caplog.messages == ["MLflow does not answer, and does not have the end of probe"]

    def test_fits_the_seconds_until_a_stopped_job_is_killed(self) -> None:
        assert STOP_S <= _STOP_WAIT_S / 2
