"""What every job on the cluster does first: read its spec, and reach Ray and MLflow."""

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import yaml

from ...trainers.errors import BrokenEnvironmentError, brief
from ..base import draining
from ..base.code_digest import TRAINING, code_digest, tell_of_other_code
from ..base.events import Stage, emit
from ..base.exits import exit_status
from ..base.keys import JOB, job_parts
from ..base.mlflow_account import log_in
from ..storage.opening import open_store
from ..storage.scratch import scratch_of
from ..storage.store import Store

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

    from ..spec.spec import Spec


log = logging.getLogger(__name__)

_REASON = 500
"""Characters of the reason of a job's end that the ledger holds."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a job works with. A driver that uses `spec` and `client` late starts its workers seconds earlier."""

    path: Path
    """The spec as `submit` wrote it: validated, every key present, paths absolute."""
    tracking_uri: str

    @cached_property
    def document(self) -> dict[str, Any]:
        """The spec as JSON has it."""
        return yaml.safe_load(self.path.read_text(encoding="utf-8"))

    @cached_property
    def store(self) -> Store:
        """For all that lasts."""
        return open_store(self.document["storage"])

    @cached_property
    def spec(self) -> "Spec":
        """The spec. Imports PyTorch at its first use. What it names need not lie on this machine."""
        from ..spec.spec_file import load_spec

        return load_spec(self.path, files_elsewhere=True)

    @cached_property
    def client(self) -> "MlflowClient":
        """A client of the MLflow server. Imports MLflow at its first use."""
        from mlflow.tracking import MlflowClient

        return MlflowClient(self.tracking_uri)

    def describe(self, run_id: str) -> None:
        """Log spec, packages and code with the run of the job."""
        from ..tracking.git_state import read_git_state
        from ..tracking.patience import unless_refused
        from ..tracking.provenance import describe_job

        git = read_git_state(self.path.parent)
        code = code_digest(TRAINING)
        unless_refused(lambda: describe_job(self.client, run_id, self.document, code, git), "what describes the job")


@contextmanager
def _told_to_the_ledger(job: Job) -> Iterator[None]:
    """Have the ledger hold how the job ended, for as long as no cluster does."""
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        _tell_end(
            job, "STOPPED" if stopped else "FAILED", "" if stopped else brief(" ".join(str(error).split()), _REASON)
        )
        raise
    _tell_end(job, "SUCCEEDED", "")


def _tell_end(job: Job, state: str, reason: str) -> None:
    # Imports Optuna, for which no worker waits.
    from ..ledger.database import at_hand
    from ..ledger.jobs import JobState, note_job

    parts = job_parts(os.environ.get(JOB, ""))
    try:
        with at_hand(job.store.folder, job.document["ledger"]) as engine:
            if engine and parts:
                note_job(engine, *parts, JobState(state), reason)
    except Exception as error:
        log.warning("the ledger does not have how this job ended: %s", " ".join(str(error).split()))


@contextmanager
def _stopped_with_its_node(job: Job) -> Iterator[None]:
    """Stop the job, as SIGTERM does, if this node is about to be taken away; raise BrokenEnvironmentError then."""
    goes = threading.Event()
    name = job.document["name"]
    again = f"`advseg sweep resume {name}`" if job.document["job"] == "sweep" else "the same `advseg submit` again"
    reason = f"its node is taken away: {again} goes on"

    def stop() -> None:
        goes.set()
        emit(Stage(text=f"the job stops: {reason}"))
        os.kill(os.getpid(), signal.SIGINT)

    try:
        with draining.heard({ray.get_runtime_context().get_node_id()}, stop):
            yield
    except KeyboardInterrupt:
        if goes.is_set():
            raise BrokenEnvironmentError(reason) from None
        raise


@contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """A folder that whoever made it removes, and nobody else: another driver may be at work in it."""
    try:
        folder.mkdir(parents=True)
        made = True
    except FileExistsError:
        made = False
    try:
        yield
    finally:
        if made:
            shutil.rmtree(folder, ignore_errors=True)


def run_job(work: Callable[[Job], None], arguments: list[str]) -> int:
    """Run a job on the spec file named by the one argument; return its exit status.

    A request to stop (SIGTERM, or this node drains) reaches `work` as KeyboardInterrupt; while Tune runs, it ends the
    trials.
    """

    def connect_and_work() -> None:
        job = Job(path=Path(arguments[0]), tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
        log_in()
        ray.init(log_to_driver=False)
        # Ray Tune ends its trials in order on SIGINT and knows no SIGTERM, which is what stopping a job sends. Ray has
        # just put a handler of its own in the place of any before.
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
        tell_of_other_code()
        scratch = _scratch(scratch_of(job.store, job.document["name"]))
        with _told_to_the_ledger(job), _stopped_with_its_node(job), scratch:
            work(job)

    return exit_status(connect_and_work)
