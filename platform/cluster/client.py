"""A client of a cluster's Jobs API that puts up with a network that fails for a moment."""

import os
import time
from typing import TYPE_CHECKING, Any

from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient
from requests.exceptions import RequestException

from ...trainers.errors import UserError
from ..services.connection import Services

if TYPE_CHECKING:
    from requests import Response

_TIMEOUT_S = (10.0, 120.0)
"""How long a connection may take, and an answer: Ray's own client waits for ever."""
_PATIENCE_S = 30.0
"""How long a cluster that has answered before may be away, for what only reads."""
_RETRY_S = 1.0
_AWAY = (502, 503, 504)
"""HTTP statuses by which a proxy says that the cluster does not answer."""


class PatientClient(JobSubmissionClient):
    """Ray's client. What reads is asked again while the cluster is away; what changes something is asked once."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> "Response":
        # Ray's client asks for the version first.
        patience_s = _PATIENCE_S if method == "GET" and self._server_ray_version else 0.0
        deadline = time.monotonic() + patience_s
        while True:
            try:
                response = super()._do_request(method, endpoint, timeout=_TIMEOUT_S, **options)
                if response.status_code not in _AWAY or time.monotonic() >= deadline:
                    return response
            except AuthenticationError:
                raise UserError(_refused(self.get_address())) from None
            except RequestException:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(_RETRY_S)


def connect_jobs(services: Services) -> JobSubmissionClient:
    """A client of the cluster's Jobs API. Raises UserError if it does not answer or refuses the token.

    Ray reads how to authenticate when it is first imported, so `services.environment()` must be set by then.
    """
    try:
        return PatientClient(services.dashboard_url)
    except AuthenticationError:
        raise UserError(_refused(services.dashboard_url)) from None
    except (ConnectionError, RequestException, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the Ray cluster at {services.dashboard_url} cannot be reached ({reason}): start it, as `advseg up` does "
            f"on this machine, or set RAY_ADDRESS to its dashboard"
        ) from None


def _refused(address: str) -> str:
    """Why a cluster takes nothing from this process, and what to do."""
    path, mode = os.environ.get("RAY_AUTH_TOKEN_PATH"), os.environ.get("RAY_AUTH_MODE")
    name = "RAY_AUTH_TOKEN_PATH" if path else "RAY_AUTH_TOKEN"
    if not os.environ.get(name):
        return f"the Ray cluster at {address} asks for its token: set RAY_AUTH_TOKEN_PATH to the file that holds it"
    if mode != "token":
        return f"the Ray cluster at {address} asks for its token, which RAY_AUTH_MODE={mode} keeps back: unset that"
    if path and not os.access(path, os.R_OK):
        return f"RAY_AUTH_TOKEN_PATH is {path}, which cannot be read: name the file that holds the cluster's token"
    return f"the Ray cluster at {address} does not take the token of {name}: ask whoever runs it for the one that holds"
