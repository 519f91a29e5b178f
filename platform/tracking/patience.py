"""What an error of MLflow's means: its server is away, and it is worth waiting, or it refuses, and will again."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from mlflow.exceptions import MlflowException
from requests import HTTPError, RequestException

from ...trainers.errors import UserError
from .ending import Ending, State

log = logging.getLogger(__name__)

PATIENCE_S = 900.0
STOP_S = 20.0
"""How long a driver that was asked to stop closes runs: 30 seconds after the request it is killed."""
_RETRY_S = 5.0
_UNAVAILABLE = {
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
}
"""What MLflow's client calls a server that does not answer, or is in trouble itself."""
_AGAIN = (408, 429)
"""HTTP statuses below 500 that ask to come back later."""
_ABOUT_CONTENT = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}

T = TypeVar("T")


def is_away(error: BaseException) -> bool:
    """Whether MLflow, or what it depends on, did not answer; what it refuses it will refuse again."""
    match error:
        case MlflowException():
            return error.error_code in _UNAVAILABLE
        case HTTPError() if error.response is not None:
            return error.response.status_code >= 500 or error.response.status_code in _AGAIN
        case UserError() | FileNotFoundError() | PermissionError() | IsADirectoryError() | NotADirectoryError():
            return False
        case _ if isinstance(response := getattr(error, "response", None), dict):  # boto's
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            return status >= 500 or status in _AGAIN
        case _:
            return True


def is_about_content(error: Exception) -> bool:
    """Whether MLflow refuses what it was given, which it may take in parts, and not whoever gives it."""
    return isinstance(error, MlflowException) and error.error_code in _ABOUT_CONTENT


def reason_of(error: BaseException) -> str:
    """An error in one line, which is not too long."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def patiently(work: Callable[[], T], *, patience_s: float = PATIENCE_S, retry_s: float = _RETRY_S) -> T:
    """Do what may be done twice, again while MLflow does not answer; raises its error after `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return work()
        except (MlflowException, RequestException) as error:
            if not is_away(error) or time.monotonic() >= deadline:
                raise
            log.warning("MLflow does not answer, trying again: %s", reason_of(error)[:200])
            time.sleep(retry_s)


def close(work: Callable[[], object], ending: Ending, what: str, *, stop_s: float = STOP_S) -> None:
    """Have MLflow say how something ended, as far as it takes it; what it does not is told in a warning.

    For that there are minutes, but `stop_s` seconds if it was asked to stop: then the process is about to be killed.
    """
    if ending.state is not State.STOPPED:
        _told(lambda: patiently(work), what)
        return
    # MLflow may take a request and never answer; nothing but the end of the process ends that.
    thread = threading.Thread(
        target=lambda: _told(lambda: patiently(work, patience_s=stop_s, retry_s=1), what), name="close", daemon=True
    )
    thread.start()
    thread.join(stop_s)
    if thread.is_alive():
        log.warning("MLflow does not answer: %s stays as it is there until `advseg sync`", what)


def _told(work: Callable[[], object], what: str) -> None:
    try:
        work()
    except (MlflowException, RequestException, UserError) as error:
        log.warning("%s is not as it ended in MLflow, which `advseg sync` mends: %s", what, reason_of(error))
