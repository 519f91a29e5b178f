"""A task is carried out: in this process, tracked, with a heartbeat, and with its failure in one line."""

import logging
import socket
import traceback
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...models.manifest import checksum_of
from ...trainers.checkpoint import CHECKPOINTS, newest_sealed
from ...trainers.data.dataset import Dataset, DatasetError
from ...trainers.distributed import World
from ...trainers.errors import BrokenEnvironmentError, FencedError, PreemptedError, UserError
from ...trainers.loop import Training
from ...trainers.pictures.report import CLASS_BARS, CONFUSION, PANELS
from ...trainers.profiling import PHASES, TRACE
from ...trainers.reporter import IMAGES, PictureReporter, Report
from ...trainers.whole_file import drop_partials
from ..base import draining
from ..base.code_digest import tell_of_other_code
from ..base.environment import environment_here
from ..base.keys import MODEL
from ..spec.spec import spec_from
from ..storage.packs import open_dataset
from ..storage.weights import start_weights
from ..tracking.reporter import MlflowReporter
from . import preemption
from .checkpoints import sealed_checkpoints
from .device import device_by
from .failures import failure_of, naming_the_machine
from .heartbeat import Heart
from .lease import Lease
from .retry import Failure
from .task import METRICS, Task
from .workplace import Workplace, workplace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

LOG = "log.txt"
ARTIFACTS = (PANELS, CONFUSION, CLASS_BARS, LOG, TRACE, PHASES)
"""Files and folders of a training's directory that are kept with its run, where they exist."""


class _Guard:
    """Fences out older attempts, and knows of pre-emptions."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease

    def check(self) -> None:
        self._lease.check()

    def asked_to_stop(self) -> bool:
        return preemption.asked_to_stop()


def run_task(
    task: Task, *, world: World, gpu: torch.device | None = None, node: str = "", controller: str = ""
) -> Generator[Report]:
    """Train in this process, report by report, tracked by the leading worker, which leaves the trained model.

    `gpu` is Ray's choice for this worker of those that the task's resources ask for, by default the first that it sees.
    `node` is Ray's id of where this process runs, `controller` of where Ray Train's does, and is to go on running.

    Raises what `Training.reports` raises, FencedError if a newer attempt has the task's directory, and
    BrokenEnvironmentError for what this machine's disks, drivers and connections broke.
    """
    lease = Lease(task.own, task.attempt)
    drain = draining.heard({node, controller} - {""}, preemption.ask)
    with preemption.training(), drain, naming_the_machine(), ExitStack() as stack:
        if world.leads:
            lease.take()
        place = stack.enter_context(workplace(task.own, lease.check, files=world.leads))
        if world.leads:
            yield from _lead(task, world, gpu, lease, place, node)
        else:
            training = _training(task, world, gpu, lease, place)
            yield from stack.enter_context(closing(training.reports()))


def _lead(
    task: Task, world: World, gpu: torch.device | None, lease: Lease, place: Workplace, node: str
) -> Generator[Report]:
    # Of attempts that were killed, or are fenced out by now.
    drop_partials(place.directory)
    tracker = MlflowReporter(task.tracking_uri, task.identity, place.directory / METRICS, ARTIFACTS)
    pictures = PictureReporter(place.directory)
    training: Training | None = None
    report: Report | None = None
    heart = Heart(
        task.own,
        task.attempt,
        lambda: training.step if training else 0,
        lambda: tracker.run_id,
        node,
        halvings=task.halvings,
        images_per_second=lambda: report.figures.get(IMAGES) if report else None,
        asked_to_stop=preemption.asked_to_stop,
        check=lease.check,
    )
    failure: Failure | None = None
    leave = tracker.close
    try:
        with _logging_to(place.directory / LOG):
            training = _training(task, world, gpu, lease, place)
            tracker.describe(partial(_describe, dataset=training.dataset, root=task.spec["dataset"]["root"]))
            trace = place.directory if task.spec["profile"] else None
            with closing(training.reports(trace=trace)) as reports:
                for report in reports:
                    lease.check()
                    pictures.report(report)
                    tracker.report(report)
                    place.keep_files()
                    heart.beat()  # If the report ends the trial, its account is settled by this.
                    yield report
            _leave_model(task, training, lease, place)
            place.keep_files()
    except FencedError:
        leave = tracker.leave
        raise
    except PreemptedError as error:
        # There are seconds left, and whoever goes on sends the rest.
        leave, failure = tracker.leave, failure_of(error)
        raise
    except Exception as error:
        failure = failure_of(error)
        raise
    finally:
        # Also when the trial is stopped, which closes this generator.
        leave()
        with suppress(FencedError, BrokenEnvironmentError, OSError):
            place.keep_files()  # What was sent of it, and how it broke.
        heart.stop(failure)


def _describe(client: "MlflowClient", run_id: str, dataset: Dataset, root: str) -> None:
    # Imports MLflow, for which a training does not wait.
    from ..tracking.provenance import describe_training

    describe_training(client, run_id, dataset, root)


def _leave_model(task: Task, training: Training, lease: Lease, place: Workplace) -> None:
    """Leave the model of a finished training, which names the checkpoint that it is of."""
    sealed = newest_sealed(place.directory / CHECKPOINTS)
    assert sealed
    lease.check()
    environment = environment_here(training.device, training.world.size, task.halvings)
    lineage = {"key": task.key, "spec": task.spec, "checkpoint": checksum_of(sealed[1])}
    export = spec_from(task.spec).export
    training.export(place.directory / MODEL, {**lineage, "environment": asdict(environment)}, export)
    place.keep_model()


def _training(task: Task, world: World, gpu: torch.device | None, lease: Lease, place: Workplace) -> Training:
    tell_of_other_code()
    spec = spec_from(task.spec)
    device = device_by(spec.resources, gpu)
    dataset = open_dataset(spec.dataset)
    if task.dataset not in (None, dataset.digest):
        raise DatasetError(
            f"dataset {spec.dataset.pack or spec.dataset.root} has digest {dataset.digest[:12]} there, but {task.key} "
            f"is to train on {task.dataset[:12]}: restore it, or begin anew under another name"
        )
    return Training(
        spec.recipe(),
        dataset,
        place.directory,
        world=world,
        device=device,
        weights=_start_weights(spec.model.weights, task),
        guard=_Guard(lease),
        keeper=place.keeper,
        kept=spec.keep.newest,
        any_accumulation=task.halvings > 0,
    )


def _start_weights(weights: str | None, task: Task) -> Path | None:
    """Where start weights lie on this machine. Raises BrokenEnvironmentError or OSError if they cannot be had."""
    try:
        path = start_weights(weights, resumes=bool(sealed_checkpoints(task.own)))
    except UserError as error:
        raise BrokenEnvironmentError(f"on {socket.gethostname()}: {error}") from None
    if path is not None and not path.is_dir():
        path.open("rb").close()
    return path


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Append what the project logs to a file, and what went wrong."""
    logger = logging.getLogger("advseg")
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    except (FencedError, PreemptedError):
        raise
    except Exception:
        logger.error("%s", traceback.format_exc())
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
