"""How S3-compatible storage is spoken to: retries, timeouts, and what is worth waiting for."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from ..base.s3_reason import s3_reason

log = logging.getLogger(__name__)

_BUSY = (408, 429)
"""HTTP statuses below 500 that ask to come back later."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long storage is waited for."""

    outage_s: float = 300.0
    """After the first failure of an operation; 0 gives up at once."""
    retry_s: float = 5.0
    """Between two attempts at an operation."""
    attempts: int = 4
    """At one request, by boto3, up to 1, 2 and 4 seconds apart."""
    connect_s: float = 5.0
    read_s: float = 60.0
    """Without a byte; storage may take seconds to answer."""


PATIENT = Patience()
AT_ONCE = Patience(attempts=2, outage_s=0)
"""Of a command, and of a job that begins: it says at once what it lacks."""


def s3_client(patience: Patience) -> Any:
    """A client of boto3, whose settings are the environment's but for the patience.

    Its own retries are for a hiccup, `patiently` for an outage: in its standard mode all threads of a client share a
    quota of a hundred retries, fifty after timeouts, so that a long outage would leave none for those who wait.
    Multipart uploads are as boto3 has them, and so are checksums of what is sent: moto and rclone take the CRC32. Of
    what comes we have our own, and boto3 trips over errors that a server sends with one. Raises BotoCoreError.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, InvalidConfigError
    from botocore.session import Session

    retries = {"mode": "standard", "total_max_attempts": patience.attempts}
    config = Config(
        connect_timeout=patience.connect_s,
        read_timeout=patience.read_s,
        retries=retries,
        response_checksum_validation="when_required",
    )
    # A session of its own: the default one is no thread's, and keeps the credentials that it saw first.
    session = Session()
    session.get_component("data_loader").file_loader = _descriptions()
    try:
        return boto3.Session(botocore_session=session).client("s3", config=config)
    except ValueError as error:
        if isinstance(error, BotoCoreError):
            raise
        # What there is may hold a password.
        reason = "AWS_ENDPOINT_URL must be an address like https://storage.example.org"
        raise InvalidConfigError(error_msg=reason) from None


@cache
def _descriptions() -> Any:
    """Reads how AWS's services are spoken to, once for all sessions: it takes a quarter of a second."""
    from botocore.loaders import JSONFileLoader

    reader: Any = JSONFileLoader()
    reader.load_file = cache(reader.load_file)
    return reader


def patiently(work: Callable[[], T], patience: Patience) -> T:
    """Do what may be done twice, again while the storage does not answer. Raises what boto3 did last."""
    deadline = None
    while True:
        try:
            return work()
        except Exception as error:
            deadline = deadline or time.monotonic() + patience.outage_s
            if not is_away(error) or time.monotonic() >= deadline:
                raise
            log.warning("S3, trying again: %s", s3_reason(error) or error)
        time.sleep(patience.retry_s)


def is_away(error: Exception) -> bool:
    """Whether storage did not answer, broke off or is in trouble; what it refuses it will refuse again."""
    from boto3.exceptions import RetriesExceededError
    from botocore import exceptions
    from s3transfer.exceptions import S3DownloadFailedError

    match error:
        case exceptions.ClientError():
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return status >= 500 or status in _BUSY or error.response["Error"]["Code"] == "RequestTimeout"
        case exceptions.ConnectionError() | exceptions.HTTPClientError() | exceptions.IncompleteReadError():
            return True
        case _:
            # The latter is raised for what is replaced while it is fetched.
            return isinstance(error, RetriesExceededError | S3DownloadFailedError)
