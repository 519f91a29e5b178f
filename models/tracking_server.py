"""MLflow's server, asked over plain HTTP: nothing of MLflow is imported."""

import os
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit

from .files import MAX_DOCUMENT_MIB, document_of, one_line
from .local_server import HOSTS, USER, find_local_server

_TIMEOUT_S = 60.0
"""How long a server may be silent."""
_CHUNK = 2**20
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""How the addresses of those in which MLflow's client reads begin."""
_REFUSED, _UNKNOWN = (401, 403), (400, 404)


class RegistryError(RuntimeError):
    """A registered model cannot be had. The message, one line, says why and what to do."""


class UnknownError(RegistryError):
    """The server has nothing of that name."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What a server leads to is not asked: it would be shown our account, or answer in the server's place."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)
_PAST_PROXIES = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))


@dataclass(frozen=True, kw_only=True)
class TrackingServer:
    """A server, and as whom it is asked."""

    url: str
    authorization: str | None = field(repr=False)

    def ask(self, path: str, **query: str) -> Any:
        """The JSON document that it answers. Raises RegistryError."""
        content = bytearray()
        for chunk in self._chunks(f"{path}?{urlencode(query)}"):
            content += chunk
            if len(content) > MAX_DOCUMENT_MIB * 2**20:
                break
        try:
            return document_of(bytes(content))
        except ValueError as error:
            raise RegistryError(f"{self.url} does not answer as an MLflow server does: {one_line(error)}") from None

    def download(self, path: str, file: Path, most: int) -> None:
        """Write an artifact to a file. Raises RegistryError, also for one of more bytes than `most`: no more come."""
        with file.open("wb") as content:
            for chunk in self._chunks(f"mlflow-artifacts/artifacts/{quote(path, safe='/%')}"):
                if content.tell() + len(chunk) > most:
                    raise RegistryError(
                        f"{file.name} of the MLflow server at {self.url} has more than {most:,} bytes, which is all "
                        "that it may have: register the model again"
                    )
                content.write(chunk)

    def _chunks(self, place: str) -> Iterator[bytes]:
        login = {"Authorization": self.authorization} if self.authorization else {}
        try:
            request = urllib.request.Request(f"{self.url}/api/2.0/{place}", headers=login)
            opener = _PAST_PROXIES if urlsplit(self.url).hostname in HOSTS else _OPENER
            with opener.open(request, timeout=_TIMEOUT_S) as response:
                while chunk := response.read(_CHUNK):
                    yield chunk
        except HTTPError as error:
            error.close()
            raise self._refusal(error.code) from None
        except (OSError, HTTPException) as error:
            raise RegistryError(
                f"the MLflow server at {self.url} does not answer ({one_line(error)}): start it, or set "
                "MLFLOW_TRACKING_URI to where it runs"
            ) from None
        except ValueError:
            # Of what it says the token may be part.
            raise RegistryError(
                "MLFLOW_TRACKING_URI or MLFLOW_TRACKING_TOKEN holds characters that no request may: set it anew"
            ) from None

    def _refusal(self, status: int) -> RegistryError:
        if status in _REFUSED:
            return RegistryError(
                f"the MLflow server at {self.url} refuses ({status}): set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to an account that may read the model"
            )
        if status in _UNKNOWN:
            return UnknownError(f"the MLflow server at {self.url} knows nothing of it ({status})")
        return RegistryError(
            f"the MLflow server at {self.url} answers {status}: try again later, or set MLFLOW_TRACKING_URI to its "
            "own address"
        )


def find_server() -> TrackingServer:
    """The server that MLFLOW_TRACKING_URI names, else the local one, with the account that belongs to it.

    Raises RegistryError if there is none, and for an address of another kind.
    """
    named, local = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/"), find_local_server()
    if named:
        _check(named)
    if local and named in ("", local.url):
        login = local.password and _basic(USER, local.password)
        return TrackingServer(url=local.url, authorization=login or None)
    if not named:
        raise RegistryError(
            "no MLflow server runs here: start it by `advseg up`, or set MLFLOW_TRACKING_URI to the address of another"
        )
    return TrackingServer(url=named, authorization=_own_login())


def _check(address: str) -> None:
    try:
        parts = urlsplit(address)
        is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        is_database = parts.scheme.partition("+")[0] in _DATABASES
    except ValueError:
        is_server = is_database = False
    if not is_server:
        raise RegistryError(
            "MLFLOW_TRACKING_URI must be the http:// or https:// address of an MLflow server, its account in "
            f"MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, but is {address.rpartition('@')[2]!r}"
            f"{': `advseg models pull` reads a database' if is_database else ''}"
        )


def _own_login() -> str | None:
    """As MLflow's client logs in."""
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    if user and password:
        return _basic(user, password)
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return f"Bearer {token}" if token else None


def _basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()
