"""Addresses in the MLflow UI."""

from mlflow.tracking import MlflowClient


def run_url(client: MlflowClient, run_id: str) -> str:
    """Where the MLflow UI shows a run."""
    experiment = client.get_run(run_id).info.experiment_id
    return f"{client.tracking_uri}/#/experiments/{experiment}/runs/{run_id}"
