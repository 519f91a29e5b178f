"""Tracking in MLflow, off the training path: metrics go to local spools and a thread of its own sends them."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...trainers.reporter import Report
from ..base.mlflow_account import log_in
from .identity import RunIdentity
from .spool import Spool

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

_BATCH = 1000
"""Metrics that MLflow takes in one request."""
_RETRY_S = 2.0
_LONGEST_RETRY_S = 20.0
"""Between two tries a thread waits twice as long each time, up to this."""
_HEAD_START_S = 5.0
"""How long a training that has not reported yet is left alone."""
_LEAVE_S = 2.0
"""How long leaving waits for a request that is under way."""
_SYSTEM_EVERY_S = 10.0
"""Seconds between two measurements of the machine."""
_FAREWELL_S = 10.0
"""How long closing waits for a server that does not answer: then the driver sends what is left."""


SYSTEM = "system.jsonl"
"""The spool of what the machine does, beside that of the metrics. Its steps number the measurements."""


class MlflowReporter:
    """Spools reports and sends them from a background thread; training never waits for the server.

    It opens the training's run and never ends it: how a training ended only its driver knows for sure.

    A step that was reported before, by this process or one that died, is not sent again. The same thread measures the
    machine, and sends the files and folders beside the spool that are named in `keep`: what is in a folder as it
    appears, for there nothing is replaced, and files at the end.
    """

    def __init__(
        self,
        tracking_uri: str,
        identity: RunIdentity,
        spool: Path,
        keep: Sequence[str] = (),
        *,
        farewell_s: float = _FAREWELL_S,
        retry_s: float = _RETRY_S,
        head_start_s: float = _HEAD_START_S,
        system_every_s: float = _SYSTEM_EVERY_S,
    ) -> None:
        self._tracking_uri = tracking_uri
        self._identity = identity
        self._farewell_s = farewell_s
        self._retry_s = retry_s
        self._head_start_s = head_start_s
        self._system_every_s = system_every_s
        self._directory = spool.parent
        self._keep = keep
        self._kept: set[Path] = set()
        """Files in folders that were sent."""
        self._spool = Spool(spool)
        self._system = Spool(self._directory / SYSTEM)
        self._last_step = max((record["step"] for record in self._spool.records()), default=-1)
        self._wake = threading.Event()
        self._describe: Callable[[MlflowClient, str], None] | None = None
        self.run_id: str | None = None
        """Of the MLflow run, once it is known."""
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="mlflow-flusher", daemon=True)
        self._thread.start()

    def report(self, report: Report) -> None:
        """Spool one report."""
        if report.step > self._last_step:
            self._last_step = report.step
            self._spool.append(_record(report.step, report.metrics))
            self._wake.set()

    def describe(self, describe: "Callable[[MlflowClient, str], None]") -> None:
        """Have the thread call this once with a client and the run's id, as soon as there is a run."""
        self._describe = describe
        self._wake.set()

    def close(self) -> None:
        """Send what is left, then the files to keep that exist. The run stays open: its driver ends it.

        If the server does not answer in `farewell_s` seconds, all stays in the spool, and a warning says so.
        """
        self._closing.set()
        self._wake.set()
        self._thread.join(self._farewell_s)
        if self._thread.is_alive():
            # From here on the spool and the run belong to whoever resumes the training.
            self._abandoned.set()
            log.warning("MLflow does not answer; metrics of %s stay in its spool", self._identity.key)

    def leave(self) -> None:
        """Stop sending; what is not sent yet stays in the spool for whoever goes on."""
        self._abandoned.set()
        self._wake.set()
        self._thread.join(_LEAVE_S)

    def _send_all(self) -> None:
        # Importing MLflow keeps the interpreter busy for a second or more, which delays the first step by as much.
        self._wake.wait(self._head_start_s)
        from mlflow.tracking import MlflowClient

        from .artifacts import send_artifacts
        from .runs import ensure_run
        from .system_metrics import SystemMetrics

        log_in()
        client, machine = MlflowClient(self._tracking_uri), SystemMetrics()
        measured, measure_at = len(self._system.records()), time.monotonic() + self._system_every_s
        retry_s = self._retry_s
        while not self._abandoned.is_set():
            self._wake.clear()
            closing = self._closing.is_set()
            # Also at the end, or a short training would say nothing of its machine.
            if time.monotonic() >= measure_at or (closing and not measured):
                self._system.append(_record(measured, machine.measure()))
                measured, measure_at = measured + 1, time.monotonic() + self._system_every_s
            try:
                # Once the training is over its driver may have ended the run already.
                self.run_id = run_id = self.run_id or ensure_run(client, self._identity, reopen=not closing)
                for spool in (self._spool, self._system):
                    send_unsent(client, run_id, spool, self._abandoned.is_set)
                self._send_description(client, run_id)
                self._send_folders(client, run_id)
                if closing:
                    if not self._abandoned.is_set():
                        send_artifacts(client, run_id, self._directory, self._keep)
                    return
            except Exception as error:
                # Whatever MLflow or an artifact store raises: it may not end the training, nor this thread.
                log.warning("MLflow did not take metrics of %s, trying again: %s", self._identity.key, error)
                self._abandoned.wait(retry_s)
                retry_s = min(2 * retry_s, _LONGEST_RETRY_S)
                continue
            retry_s = self._retry_s
            if not closing:
                self._wake.wait(max(0.0, measure_at - time.monotonic()))

    def _send_description(self, client: "MlflowClient", run_id: str) -> None:
        from .patience import is_away

        try:
            if self._describe:
                self._describe(client, run_id)
        except Exception as error:
            if is_away(error):
                raise
            log.warning("MLflow refuses what describes %s: %s", self._identity.key, error)
        self._describe = None

    def _send_folders(self, client: "MlflowClient", run_id: str) -> None:
        from .artifacts import files_of, send_artifacts

        folders = [name for name in self._keep if (self._directory / name).is_dir()]
        files = set(files_of(self._directory, folders))
        if files > self._kept and not self._abandoned.is_set():
            send_artifacts(client, run_id, self._directory, folders)
            self._kept = files


def _record(step: int, metrics: dict[str, float]) -> dict[str, Any]:
    return {"step": step, "timestamp": time.time_ns() // 1_000_000, "metrics": metrics}


def send_unsent(client: "MlflowClient", run_id: str, spool: Spool, abandoned: Callable[[], bool]) -> None:
    """Send what a spool holds, as many records at a time as fit in a request, and mark them; stops when `abandoned`.

    What was sent and not marked is sent again: with the same timestamps it is the same to MLflow.
    """
    from mlflow.entities import Metric

    unsent = spool.unsent()
    while unsent and not abandoned():
        count = _fitting(unsent)
        metrics = [
            Metric(name, value, record["timestamp"], record["step"])
            for record in unsent[:count]
            for name, value in record["metrics"].items()
        ]
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
        if abandoned():
            return
        spool.mark_sent(count)
        unsent = unsent[count:]


def _fitting(records: Sequence[dict[str, Any]]) -> int:
    """How many of the first records make one request; one at least."""
    totals = accumulate(len(record["metrics"]) for record in records)
    return max(1, sum(total <= _BATCH for total in totals))
