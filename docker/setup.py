"""Makes what the services of compose.yaml need of each other: two buckets, and the nodes' account at MLflow."""

import os
from pathlib import Path

import boto3
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client

BUCKETS = ("advseg", "mlflow")
ACCOUNT = "cluster"
PASSWORD = Path("/run/secrets/mlflow-cluster")


def main() -> None:
    s3 = boto3.client("s3")
    known = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for name in BUCKETS:
        if name not in known:
            s3.create_bucket(Bucket=name)
    accounts = get_app_client("basic-auth", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    password = PASSWORD.read_text().strip()
    try:
        accounts.create_user(ACCOUNT, password)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        # Perhaps the secret is a new one.
        accounts.update_user_password(ACCOUNT, password)


if __name__ == "__main__":
    main()
