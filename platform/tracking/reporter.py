"""Tracking in MLflow, off the training path: metrics go to local spools and a thread of its own sends them."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...trainers.reporter import Report
from ..base.mlflow_account import log_in
from ..storage.local_store import LocalStore
from .identity import RunIdentity
from .noted import note
from .spool import Spool

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from .sending import Sender
    from .system_metrics import SystemMetrics

log = logging.getLogger(__name__)

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
_NOT_TAKEN = "MLflow did not take metrics of %s, trying again: %s"

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
        for each in (self._spool, self._system):
            each.take()
        self._reported = {record["step"] for record in self._spool.records()}
        self._machine: SystemMetrics | None = None
        self._measured = 0
        self._measure_at = time.monotonic() + system_every_s
        self._client: MlflowClient | None = None
        self._sender: Sender | None = None
        self._told: dict[str, str] = {}
        """The newest trouble of each kind that a warning told of."""
        self._wake = threading.Event()
        self._describe: Callable[[MlflowClient, str], None] | None = None
        self.run_id: str | None = None
        """Of the MLflow run, once it is known."""
        self._closing = threading.Event()
        self._abandoned = threading.Event()
        self._here = LocalStore(self._directory)
        note(self._here, tracking_uri, identity, None)
        self._thread = threading.Thread(target=self._send_all, name="mlflow-flusher", daemon=True)
        self._thread.start()

    def report(self, report: Report) -> None:
        """Spool one report."""
        if report.step not in self._reported:
            self._spool.append(_record(report.step, {**report.metrics, **report.figures}))
            self._reported.add(report.step)
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
        from .patience import is_away

        log_in()
        retry_s = self._retry_s
        while not self._abandoned.is_set():
            self._wake.clear()
            closing = self._closing.is_set()
            # Whatever is raised by a device, MLflow or an artifact store: it may not end the training, nor this thread.
            try:
                self._measure(closing)
            except Exception as error:
                self._tell("the machine of %s is not measured: %s", error)
                self._measure_at = time.monotonic() + self._system_every_s
            try:
                self._send(closing)
            except Exception as error:
                self._tell(_NOT_TAKEN, error)
                if closing and not is_away(error):
                    return
                self._abandoned.wait(retry_s)
                retry_s = min(2 * retry_s, _LONGEST_RETRY_S)
                continue
            retry_s = self._retry_s
            self._told.pop(_NOT_TAKEN, None)
            if closing:
                return
            self._wake.wait(max(0.0, self._measure_at - time.monotonic()))

    def _measure(self, closing: bool) -> None:
        """Measure the machine if it is time; at the end, too, or a short training would say nothing of it."""
        from .system_metrics import SystemMetrics

        if self._machine is None:
            self._machine = SystemMetrics()
            self._measured = max((record["step"] + 1 for record in self._system.records()), default=0)
        if time.monotonic() >= self._measure_at or (closing and not self._measured):
            self._measure_at = time.monotonic() + self._system_every_s
            self._system.append(_record(self._measured, self._machine.measure()))
            self._measured += 1

    def _send(self, closing: bool) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        from .artifacts import send_artifacts
        from .runs import ensure_run
        from .sending import Sender, is_deleted

        client = self._client = self._client or MlflowClient(self._tracking_uri)
        if self._sender is None:
            # Once the training is over its driver may have ended the run already.
            self.run_id = ensure_run(client, self._identity, reopen=not closing)
            note(self._here, self._tracking_uri, self._identity, self.run_id)
            self._sender = Sender(client, self.run_id, self._identity.key)
        run_id = self._sender.run_id
        try:
            for spool in (self._spool, self._system):
                self._sender.send(spool, self._abandoned.is_set)
        except MlflowException:
            if is_deleted(client, run_id):
                # Somebody has deleted it; the next try makes another, which gets all.
                self._sender, self._kept = None, set()
            raise
        self._send_description(client, run_id)
        self._send_folders(client, run_id)
        if closing and not self._abandoned.is_set():
            send_artifacts(client, run_id, self._directory, self._keep)

    def _tell(self, text: str, error: Exception) -> None:
        """Warn of trouble once while it lasts."""
        from .patience import reason_of

        reason = reason_of(error)
        if self._told.get(text) != reason:
            self._told[text] = reason
            log.warning(text, self._identity.key, reason)

    def _send_description(self, client: "MlflowClient", run_id: str) -> None:
        from .patience import is_away

        try:
            if self._describe:
                self._describe(client, run_id)
        except Exception as error:
            if is_away(error):
                raise
            self._tell("MLflow refuses what describes %s: %s", error)
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
