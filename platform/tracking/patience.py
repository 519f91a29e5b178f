"""What an error of MLflow's means: its server is away, and it is worth waiting, or it refuses, and will again."""

import logging
import os
import re
import socket
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
STOP_S = 12.0
"""How long a driver that was asked to stop closes runs: 30 seconds after the request, of which Ray takes some, it is
killed."""
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
_PLACE_IN_MEMORY = re.compile(r" object at 0x[0-9a-f]+")
_ABOUT_CONTENT = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}

T = TypeVar("T")


class TrackingError(UserError):
    """MLflow refused, or did not answer for a long time."""


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


def account_refusal(error: BaseException) -> str | None:
    """Why MLflow refuses whoever asks, and what to do; None of any other error."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    match error:
        case MlflowException(error_code="UNAUTHENTICATED"):
            return (
                f"it does not know {f'{user} by this password' if user else 'who asks'}: MLFLOW_TRACKING_USERNAME and "
                f"MLFLOW_TRACKING_PASSWORD on {socket.gethostname()} must be those of an account"
            )
        case MlflowException(error_code="PERMISSION_DENIED"):
            return (
                f"{_line(error)}: {user or 'who asks'} may not do that there, unless an admin of that MLflow lets them"
            )
    return None


def reason_of(error: BaseException) -> str:
    """An error in one line, which is not too long, and the same when it comes again."""
    return account_refusal(error) or _line(error)


def _line(error: BaseException) -> str:
    return _PLACE_IN_MEMORY.sub("", " ".join(str(error).split()))[:300] or type(error).__name__


def patiently(work: Callable[[], T], *, patience_s: float = PATIENCE_S, retry_s: float = _RETRY_S) -> T:
    """Do what may be done twice, again while MLflow does not answer.

    Raises TrackingError for what it refuses, or if it did not answer for `patience_s` seconds.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return work()
        except (MlflowException, RequestException) as error:
            if not is_away(error):
                raise TrackingError(f"MLflow refuses: {reason_of(error)}") from error
            if time.monotonic() >= deadline:
                raise TrackingError(f"MLflow does not answer: {reason_of(error)}") from error
            log.warning("MLflow does not answer, trying again: %s", reason_of(error)[:200])
            time.sleep(retry_s)


def unless_refused(
    work: Callable[[], object],
    what: str,
    *,
    patience_s: float = PATIENCE_S,
    refusal: type[UserError] = TrackingError,
) -> None:
    """Do it patiently; if MLflow does not take it, a warning says that it has no `what`."""
    try:
        patiently(work, patience_s=patience_s)
    except refusal as error:
        log.warning("MLflow does not have %s: %s", what, error)


def close(work: Callable[[], object], ending: Ending, what: str, *, stop_s: float = STOP_S) -> None:
    """Tell MLflow what is to be told at an end; a warning says that it has no `what` if it does not take that.

    For that there are minutes, but `stop_s` seconds if a stop was asked for: then the process is about to be killed.
    """
    if ending.state is not State.STOPPED:
        unless_refused(work, what, refusal=UserError)
        return
    raised: list[BaseException] = []

    def try_it() -> None:
        try:
            unless_refused(work, what, patience_s=stop_s, refusal=UserError)
        except BaseException as error:
            raised.append(error)

    # MLflow may take a request and never answer, and the client waits for that for minutes.
    thread = threading.Thread(target=try_it, name="close", daemon=True)
    thread.start()
    thread.join(stop_s)
    if thread.is_alive():
        log.warning("MLflow does not answer, and does not have %s", what)
    elif raised:
        raise raised[0]
