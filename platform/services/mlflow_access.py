"""Who may ask the local MLflow server, and where it keeps artifacts: runs in the server, whose settings name it."""

import os
from functools import cache
from pathlib import Path
from typing import cast

from flask import Response, redirect, request
from mlflow.exceptions import MlflowException
from mlflow.server.auth import authenticate_request_basic_auth
from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR
from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.utils.file_utils import local_file_uri_to_path
from werkzeug.datastructures import Authorization

from .mlflow_accounts import LOGIN

_LEAD_ELSEWHERE = ("mlflow-artifacts", "models", "runs")
"""Schemes that stand for another address, which is looked up in turn."""


def authorize() -> Authorization | Response:
    """Whoever a request comes from, or the answer that it gets instead: to ask for an account, or to lead on."""
    _keep_to_own_folder()
    account = authenticate_request_basic_auth()
    if isinstance(account, Authorization) and request.path == LOGIN:
        # The UI does not work at an address with a password. A browser knows the password from here on.
        return cast(Response, redirect(request.host_url))
    return account


@cache
def _keep_to_own_folder() -> None:
    """Let this server read and write artifacts in its own folder alone.

    MLflow takes any location from whoever has an account, and serves it with its own user's rights and keys.
    """
    repositories = get_registered_artifact_repositories()
    repositories |= dict.fromkeys(repositories.keys() - {*_LEAD_ELSEWHERE}, _own_folder)


def _own_folder(uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> LocalArtifactRepository:
    own = Path(os.environ[ARTIFACTS_DESTINATION_ENV_VAR]).resolve()
    if not Path(local_file_uri_to_path(uri)).resolve().is_relative_to(own):
        raise MlflowException.invalid_parameter_value(
            "this server keeps artifacts in its own folder, and serves no other"
        )
    return LocalArtifactRepository(uri, tracking_uri, registry_uri)
