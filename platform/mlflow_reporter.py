"""Tracking in MLflow, off the training path: metrics go to a local spool and a thread of its own sends them."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..trainers.reporter import Report
from .runs import RunIdentity
from .spool import Spool

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

_BATCH = 1000
"""Metrics that MLflow takes in one request."""
_RETRY_S = 2.0
_HEAD_START_S = 5.0
"""How long a training that has not reported yet is left alone."""
_LEAVE_S = 2.0
"""How long leaving waits for a request that is under way."""
_FAREWELL_S = 30.0
"""How long closing waits for a server that does not answer."""


class MlflowReporter:
    """Spools reports and sends them from a background thread; training never waits for the server.

    A step that was reported before, by this process or one that died, is not sent again.
    """

    def __init__(
        self,
        tracking_uri: str,
        identity: RunIdentity,
        spool: Path,
        *,
        farewell_s: float = _FAREWELL_S,
        retry_s: float = _RETRY_S,
        head_start_s: float = _HEAD_START_S,
    ) -> None:
        self._tracking_uri = tracking_uri
        self._identity = identity
        self._farewell_s = farewell_s
        self._retry_s = retry_s
        self._head_start_s = head_start_s
        self._spool = Spool(spool)
        self._last_step = max((record["step"] for record in self._spool.records()), default=-1)
        self._wake = threading.Event()
        self.run_id: str | None = None
        """Of the MLflow run, once it is known."""
        self._end: tuple[str, str, list[Path]] | None = None
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="mlflow-flusher", daemon=True)
        self._thread.start()

    def report(self, report: Report) -> None:
        """Spool one report."""
        if report.step > self._last_step:
            self._last_step = report.step
            self._spool.append(
                {"step": report.step, "timestamp": time.time_ns() // 1_000_000, "metrics": report.metrics}
            )
            self._wake.set()

    def close(self, state: str, reason: str, artifacts: list[Path]) -> None:
        """Send what is left, then the artifacts that exist, then the end of the run.

        If the server does not answer in `farewell_s` seconds, all stays in the spool, and a warning says so.
        """
        self._end = state, reason, artifacts
        self._wake.set()
        self._thread.join(self._farewell_s)
        if self._thread.is_alive():
            # From here on the spool and the run belong to whoever resumes the training.
            self._abandoned.set()
            log.warning("MLflow does not answer; metrics of %s stay in its spool", self._identity.key)

    def leave(self) -> None:
        """Stop sending and leave the run open; what is not sent yet stays in the spool for whoever goes on."""
        self._abandoned.set()
        self._wake.set()
        self._thread.join(_LEAVE_S)

    def _send_all(self) -> None:
        # Importing MLflow keeps the interpreter busy for a second or more, which delays the first step by as much.
        self._wake.wait(self._head_start_s)
        from mlflow.tracking import MlflowClient

        from .tracking import close_run, ensure_run

        client = MlflowClient(self._tracking_uri)
        while not self._abandoned.is_set():
            self._wake.clear()
            end = self._end
            try:
                self.run_id = run_id = self.run_id or ensure_run(client, self._identity)
                send_unsent(client, run_id, self._spool, self._abandoned.is_set)
                if end and not self._abandoned.is_set():
                    state, reason, artifacts = end
                    for path in artifacts:
                        if path.exists():
                            client.log_artifact(run_id, str(path))
                    close_run(client, run_id, state, reason)
                    return
            except Exception as error:
                # Whatever MLflow or an artifact store raises: it may not end the training, nor this thread.
                log.warning("MLflow did not take metrics of %s, trying again: %s", self._identity.key, error)
                self._abandoned.wait(self._retry_s)
                continue
            if end is None:
                self._wake.wait()


def send_unsent(client: "MlflowClient", run_id: str, spool: Spool, abandoned: Callable[[], bool]) -> None:
    """Send what a spool holds, record by record, and mark each; stops when `abandoned`."""
    from mlflow.entities import Metric

    for record in spool.unsent():
        metrics = [
            Metric(name, value, record["timestamp"], record["step"]) for name, value in record["metrics"].items()
        ]
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        if abandoned():
            return
        spool.mark_sent(1)
