"""Who may ask our MLflow server, and where it keeps artifacts: runs in the server, whose settings name it."""

import os
from collections.abc import Callable
from functools import cache, partial
from typing import cast

from flask import Response, redirect, request
from mlflow.exceptions import MlflowException
from mlflow.server.auth import authenticate_request_basic_auth
from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories
from werkzeug.datastructures import Authorization

from .mlflow_accounts import LOGIN
from .mlflow_place import is_own

_LEAD_ELSEWHERE = ("mlflow-artifacts", "models", "runs")
"""Schemes that stand for another address, which is looked up in turn."""


def authorize() -> Authorization | Response:
    """Whoever a request comes from, or the answer that it gets instead: to ask for an account, or to lead on."""
    _keep_to_own_place()
    account = authenticate_request_basic_auth()
    if isinstance(account, Authorization) and request.path == LOGIN:
        # The UI does not work at an address with a password. A browser knows the password from here on.
        return cast(Response, redirect(request.host_url))
    return account


@cache
def _keep_to_own_place() -> None:
    """Let this server read and write artifacts in its own folder or bucket alone.

    MLflow takes any location from whoever has an account, and serves it with its own user's rights and keys.
    """
    repositories = get_registered_artifact_repositories()
    repositories |= {
        # MLflow's type says that it holds repositories; it holds what makes them.
        scheme: partial(_own, cast("Callable[..., ArtifactRepository]", make))
        for scheme, make in repositories.items()
        if scheme not in _LEAD_ELSEWHERE
    }


def _own(
    make: Callable[..., ArtifactRepository], uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> ArtifactRepository:
    """The repository that MLflow makes of a location. Raises MlflowException for another place than this server's."""
    if not is_own(uri, os.environ[ARTIFACTS_DESTINATION_ENV_VAR]):
        raise MlflowException.invalid_parameter_value(
            "this server keeps artifacts in its own place, and serves no other"
        )
    return make(uri, tracking_uri=tracking_uri, registry_uri=registry_uri)
