"""One training in this process, without Ray. Running it again resumes."""

import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from multiprocessing import parent_process
from pathlib import Path

import torch

from ..models.bundle import read_card
from ..platform.base.alone import alone_in
from ..platform.base.environment import environment_here
from ..platform.base.home import find_home
from ..platform.base.keys import MODEL, key_of
from ..platform.spec.resources import Resources
from ..platform.spec.spec import Spec
from ..platform.storage.opening import open_store
from ..platform.storage.packs import open_dataset
from ..platform.storage.weights import start_weights
from ..platform.workers import preemption
from ..trainers.checkpoint import CHECKPOINTS, newest_sealed
from ..trainers.described import device_name
from ..trainers.devices import usual_device
from ..trainers.distributed import World
from ..trainers.guard import Guard, Unguarded
from ..trainers.kept import Export
from ..trainers.loop import Training
from ..trainers.outcome import Outcome
from ..trainers.profiling import PHASES, STEPS, TRACE
from ..trainers.reporter import ConsoleReporter, JsonLinesReporter, PictureReporter, Reporter, Reporters

log = logging.getLogger(__name__)


class Interruptible(Unguarded):
    """For a training that nobody else touches, and that SIGTERM and Ctrl-C end once it is saved."""

    def asked_to_stop(self) -> bool:
        """Whether it heard one."""
        return preemption.asked_to_stop()


def train(
    spec: Spec,
    folder: Path,
    reporter: Reporter,
    *,
    world: World | None = None,
    device: torch.device | None = None,
    guard: Guard | None = None,
    told_to_stop: Callable[[], object] | None = None,
) -> Outcome:
    """Train to the end in this process, and leave metrics, pictures and model in a folder; of several, one does.

    `told_to_stop` is called, or that said, as SIGTERM or Ctrl-C is heard.
    Raises PreemptedError once it is saved, if SIGTERM or Ctrl-C ended it, and UserError for a folder in which another
    process trains.
    """
    with ExitStack() as stack:
        if world is None or world.leads:
            stack.enter_context(alone_in(folder))
        return _train(spec, folder, reporter, world, device, guard or Interruptible(), told_to_stop or tell_of_stopping)


def _train(
    spec: Spec,
    folder: Path,
    reporter: Reporter,
    world: World | None,
    device: torch.device | None,
    guard: Guard,
    told_to_stop: Callable[[], object],
) -> Outcome:
    weights = start_weights(spec.model.weights, resumes=newest_sealed(folder / CHECKPOINTS) is not None)
    training = Training(
        spec.recipe(),
        open_dataset(spec.dataset),
        folder,
        world=world,
        device=device,
        weights=weights,
        guard=guard,
        kept=spec.keep.newest,
    )
    with preemption.listening(told_to_stop), preemption.training():
        if not training.world.leads:
            return training.run(Reporters())
        log, pictures = JsonLinesReporter(folder / "metrics.jsonl"), PictureReporter(folder)
        outcome = training.run(Reporters(log, pictures, reporter), trace=folder if spec.profile else None)
    environment = environment_here(training.device, training.world.size)
    lineage = {"spec": spec.model_dump(mode="json"), "environment": asdict(environment)}
    training.export(folder / MODEL, lineage, spec.export)
    return outcome


def tell_of_stopping() -> None:
    """Say what a signal does, as soon as it is heard."""
    # What was being printed when the signal came cannot be printed into.
    os.write(2, b"stopping: it is saved after this step; a second Ctrl-C does not wait, a second SIGTERM does\n")


def train_beside_others(spec: Spec, folder: Path, device: torch.device) -> None:
    """`train` without a word, in this process alone or in one of several at a time, which another tells to stop."""
    if device.type == "cpu":
        # More threads would only wait for those of the other processes.
        torch.set_num_threads(1)
    train(spec, folder, Reporters(), device=device, told_to_stop=(lambda: None) if parent_process() else None)


def train_and_tell(
    spec: Spec, folder: Path | None, *, world: World | None = None, device: torch.device | None = None
) -> None:
    """`train` with its progress in the terminal; by default into the storage, as `<name>/local`."""
    folder = folder or (open_store(spec.storage or find_home() / "runs").folder or find_home() / "runs") / key_of(
        spec.name, "local"
    )
    # Whoever started several processes tells of a signal itself.
    told_to_stop = None if world is None or world.size == 1 else lambda: None
    if note := not_followed(spec.resources, world or World(), device or usual_device()):
        log.info(note)
    outcome = train(spec, folder, ConsoleReporter(), world=world, device=device, told_to_stop=told_to_stop)
    if world and not world.leads:
        return
    if spec.profile and (folder / PHASES).exists():
        print(f"{(folder / PHASES).read_text()}trace of {STEPS} steps in {folder / TRACE}")
    model = folder / MODEL
    print(told(outcome, spec.export, read_card(model, alone=True).lineage["step"], model))


def not_followed(resources: Resources, world: World, device: torch.device) -> str:
    """Which resources a spec sets that a training without Ray does not have, in a line; empty if none."""
    gpus = 0 if device.type == "cpu" else min(resources.gpus_per_worker, 1) or 1
    own = Resources(workers=world.size, cpus_per_worker=torch.get_num_threads(), gpus_per_worker=gpus)
    differing = sorted(key for key in resources.model_fields_set if vars(own)[key] != vars(resources)[key])
    if not differing:
        return ""
    keys = ", ".join(f"resources.{key}" for key in differing)
    processes = "1 process" if world.size == 1 else f"{world.size} processes"
    return (
        f"note: this trains in {processes} on {device_name(device)}, whatever the spec says by {keys}: `advseg submit` "
        f"follows that, and torchrun and --device choose here"
    )


def told(outcome: Outcome, export: Export, step: int, model: Path) -> str:
    """How a training ended, and of which step the model is, in a line."""
    last = f"mIoU {outcome.metrics['val/miou']:.1f} after {outcome.step} steps"
    if outcome.best_step in (0, outcome.step) or outcome.best_miou == outcome.metrics["val/miou"]:
        return f"{last}, the best; model in {model}"
    best = f"the best {outcome.best_miou:.1f} after {outcome.best_step}"
    if step == outcome.best_step:
        which = "best"
    else:
        which = "last (export=best takes the other)" if export == "last" else "last (the best checkpoint is lost)"
    return f"{last}, {best}; model of the {which} in {model}"
