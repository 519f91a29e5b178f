"""The services that verbs talk to. What does not answer is told in one line."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ...platform.base.home import find_home

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from ray.job_submission import JobSubmissionClient

    from ...platform.services.connection import Services


@contextmanager
def cluster() -> "Iterator[tuple[Services, JobSubmissionClient]]":
    """The services and a client of the Ray cluster's Jobs API. Raises UserError if it does not answer."""
    from ...platform.services.connection import connect
    from ...platform.services.servers import RAY

    running = connect(find_home(), [RAY])
    running.enter()
    from requests.exceptions import RequestException

    from ...platform.cluster.client import connect_jobs
    from ...trainers.errors import UserError, brief

    # Ray's clients tell of every upload and every closed stream.
    logging.disable(logging.INFO)
    try:
        yield running, connect_jobs(running)
    except (RequestException, RuntimeError) as error:
        # Ray's client has no class of its own for an answer that says that the server is in trouble.
        if isinstance(error, RuntimeError) and not str(error).startswith("Request failed with status code 5"):
            raise
        reason = brief(" ".join(str(error).split()))
        raise UserError(
            f"the Ray cluster at {running.dashboard_url} does not answer any more ({reason}): `advseg status` says "
            f"whether it runs; a job that ended with it goes on once it is submitted again"
        ) from None
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def mlflow(services: "Services | None" = None) -> "Iterator[MlflowClient]":
    """A client that prints nothing of its own; by default of the server that the environment or the home names.

    Raises UserError if the server does not answer.
    """
    os.environ |= {
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    # A user at a terminal does not wait for minutes: neither for an answer, nor for a server.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    if services is None:
        from ...platform.services.connection import connect
        from ...platform.services.servers import MLFLOW

        services = connect(find_home(), [MLFLOW])
    services.enter()
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    from ...platform.tracking.patience import account_refusal, is_away
    from ...trainers.errors import UserError

    try:
        yield MlflowClient(services.tracking_uri)
    except MlflowException as error:
        if refusal := account_refusal(error):
            raise UserError(f"the MLflow server at {services.tracking_uri} refuses: {refusal}") from None
        if not is_away(error):
            raise
        # Its client's own words repeat themselves; what happened comes last.
        reason = " ".join(str(error).split()).rpartition(": ")[2].strip("')\" ")
        raise UserError(
            f"the MLflow server at {services.tracking_uri} does not answer ({reason}): start it, as `advseg up` does "
            f"on this machine, or set MLFLOW_TRACKING_URI to where it runs"
        ) from None


@contextmanager
def model_folder(model: str) -> Iterator[Path]:
    """The folder of a model; one that is registered is there for as long as it is needed."""
    if not is_registered(model):
        yield Path(model)
        return
    with mlflow() as client:
        from ...platform.registry.registry import pulled

        with pulled(client, model) as folder:
            yield folder


def is_registered(model: str) -> bool:
    """Whether that names a registered model, and no folder."""
    return "@" in model and not Path(model).exists()
