"""What every job on the cluster does first: read its spec, and reach Ray and MLflow."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ray
from mlflow.tracking import MlflowClient

from .exits import exit_status
from .keys import scratch_of
from .spec import Spec
from .spec_file import load_spec


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a job works with."""

    spec: Spec
    storage: Path
    client: MlflowClient
    tracking_uri: str


def run_job(work: Callable[[Job], None], arguments: list[str]) -> int:
    """Run a job on the spec file named by the one argument; return its exit status.

    A request to stop (SIGTERM) reaches `work` as KeyboardInterrupt; while Tune runs, it ends the trials.
    """
    # Ray Tune ends its trials in order on SIGINT and knows no SIGTERM, which is what stopping a job sends.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))

    def connect_and_work() -> None:
        spec = load_spec(Path(arguments[0]))
        assert spec.storage, "submit names the storage"
        uri = os.environ["MLFLOW_TRACKING_URI"]
        ray.init(log_to_driver=False)
        try:
            work(Job(spec=spec, storage=spec.storage, client=MlflowClient(uri), tracking_uri=uri))
        finally:
            shutil.rmtree(scratch_of(spec.storage, spec.name), ignore_errors=True)

    return exit_status(connect_and_work)
