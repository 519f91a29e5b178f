from typing import Any

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE

from advseg.platform.tracking.patience import patiently

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


def test_what_mlflow_refuses_is_not_done_again() -> None:
    work = failing(MlflowException("no such run", error_code=RESOURCE_DOES_NOT_EXIST), 1)
    with pytest.raises(MlflowException, match="no such run"):
        patiently(work, retry_s=0)
    assert work() == 2


def test_patience_ends() -> None:
    with pytest.raises(MlflowException, match="connection refused"):
        patiently(failing(AWAY[0], 10**9), patience_s=0.05, retry_s=0.01)
