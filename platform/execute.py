"""A task is carried out: in this process, tracked, with its failure in one line."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..trainers.data.dataset import open_dataset
from ..trainers.distributed import World
from ..trainers.errors import DivergedError, UserError
from ..trainers.loop import Outcome, Training
from ..trainers.profiling import PHASES, TRACE
from ..trainers.reporter import PanelReporter, Reporter, Reporters
from .fetch import start_weights
from .mlflow_reporter import MlflowReporter
from .spec import Spec
from .task import Task

PANEL = "validation.png"
LOG = "log.txt"


def run_task(task: Task, reporter: Reporter, *, world: World, device: torch.device | None = None) -> Outcome:
    """Train in this process, tracked by the leading worker. Raises what the training or the reporter raises."""
    spec = Spec.model_validate(task.spec)
    if not world.leads:
        return _train(task, spec, reporter, world, device)
    task.directory.mkdir(parents=True, exist_ok=True)
    tracker = MlflowReporter(task.tracking_uri, task.identity, task.spool)
    reporters = Reporters(tracker, PanelReporter(task.directory / PANEL), reporter)
    state, reason = "STOPPED", "stopped from outside"
    try:
        with _logging_to(task.directory / LOG):
            try:
                outcome = _train(task, spec, reporters, world, device)
            except Exception as error:
                state, reason = "FAIL", reason_of(error)
                logging.getLogger("advseg").error("%s", traceback.format_exc())
                raise
        state, reason = "COMPLETE", ""
        return outcome
    finally:
        # Also on the SystemExit by which Tune stops a trial.
        tracker.close(state, reason, [task.directory / name for name in (PANEL, LOG, TRACE, PHASES)])


def _train(task: Task, spec: Spec, reporter: Reporter, world: World, device: torch.device | None) -> Outcome:
    dataset = open_dataset(spec.dataset)
    weights = start_weights(spec, task.directory, task.storage)
    training = Training(spec.recipe(), dataset, task.directory, world=world, device=device, weights=weights)
    return training.run(reporter, trace=task.directory if spec.profile and world.leads else None)


def reason_of(error: Exception) -> str:
    """Why a training failed, in one line."""
    match error:
        case DivergedError():
            return f"diverged: {error}"
        case UserError():
            return str(error)
        case torch.cuda.OutOfMemoryError() | MemoryError():
            return f"out of memory: {error}"
        case _:
            return " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Append what the project logs to a file."""
    logger = logging.getLogger("advseg")
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
