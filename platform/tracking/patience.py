"""Patience with an MLflow server that is away for some minutes."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from mlflow.exceptions import MlflowException
from requests import RequestException

log = logging.getLogger(__name__)

PATIENCE_S = 900.0
_RETRY_S = 5.0
_UNAVAILABLE = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
"""What MLflow's client calls a server that does not answer, or is in trouble itself."""

T = TypeVar("T")


def is_away(error: Exception) -> bool:
    """Whether MLflow, or what it depends on, did not answer; what it refuses it will refuse again."""
    return not isinstance(error, MlflowException) or error.error_code in _UNAVAILABLE


def patiently(work: Callable[[], T], *, patience_s: float = PATIENCE_S, retry_s: float = _RETRY_S) -> T:
    """Do what may be done twice, again while MLflow does not answer; raises its error after `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return work()
        except (MlflowException, RequestException) as error:
            if not is_away(error) or time.monotonic() >= deadline:
                raise
            log.warning("MLflow does not answer, trying again: %s", " ".join(str(error).split())[:200])
            time.sleep(retry_s)
