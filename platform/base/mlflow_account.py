"""The account of the local MLflow server, which our own processes read from a file by themselves."""

import logging
import os
from pathlib import Path

from ...models.local_server import USER

log = logging.getLogger(__name__)

PASSWORD_PATH = "ADVSEG_MLFLOW_PASSWORD_PATH"
"""Environment variable with the path of the file that holds the password; empty or absent: no account of ours."""


def has_account() -> bool:
    """Whether this process logs in, with our account or its user's: what it says then is for one server alone."""
    secrets = (PASSWORD_PATH, "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
    return any(os.environ.get(name) for name in secrets)


def log_in() -> None:
    """Let MLflow's client in this process use the account whose password file the environment names, if it does.

    A job's environment is shown to whoever may ask Ray: it has the path, and only the process the password.
    """
    path = os.environ.get(PASSWORD_PATH)
    if not path:
        return
    try:
        password = Path(path).read_text().strip()
    except OSError as error:
        log.warning("the password of the MLflow server cannot be read (%s): it will refuse this process", error)
        return
    os.environ |= {"MLFLOW_TRACKING_USERNAME": USER, "MLFLOW_TRACKING_PASSWORD": password}
