"""What lies on disk of a training, and how it comes back: its checkpoints, and its outcome at the end."""

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..models.bundle import read_card
from ..models.manifest import BrokenDirectoryError
from .checkpoint import CHECKPOINTS, checkpoint_at, host_copy, load_checkpoint, save_checkpoint
from .data.dataset import Dataset
from .distributed import World
from .errors import ForeignCheckpointError
from .guard import Guard
from .identity import identity_of, refusal
from .keeper import Keeper
from .kept import Kept
from .methods.method import Method, networks_of
from .outcome import Outcome, drop_outcome, read_outcome, write_outcome
from .recipe import Recipe
from .resuming import common_checkpoint
from .standing import Standing
from .whole_file import drop_partials
from .writing import Writing

log = logging.getLogger(__name__)


class Saved:
    """A training's directory, which the leading worker alone writes. The guard is asked before each change."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        method: Method,
        directory: Path,
        *,
        world: World,
        device: torch.device,
        guard: Guard,
        keeper: Keeper,
        kept: int,
        any_accumulation: bool,
    ) -> None:
        """Touches nothing yet. What is not said here is said by `Training`."""
        self._recipe = recipe
        self._dataset = dataset
        self._method = method
        self._directory = directory
        self._root = directory / CHECKPOINTS
        self._world = world
        self._device = device
        self._guard = guard
        self._keeper = keeper
        self._newest_kept = kept
        self._any_accumulation = any_accumulation
        self.standing = Standing()
        """Where the training stands, beside its networks: part of what is saved."""
        self.step = 0
        """That of the newest checkpoint, which may be being written."""
        self.writing = Writing()
        """Of checkpoints, while the training goes on."""

    def resume(self) -> None:
        """Take up the newest whole checkpoint that the leading worker finds, if there is one.

        Raises CheckpointError if it belongs to other settings or other data, if it has another format, or if there
        are only damaged ones.
        """
        found = common_checkpoint(self._root, self._keeper, self._accept, self._world, self._device)
        if found is None:
            return
        path, state = found
        self.standing = Standing.in_state(state)
        self.step = self.standing.step
        self._method.load_state_dict(state["method"])
        # Between two evaluations each worker's are its own; a checkpoint of before has the first one's alone.
        if (statistics := state.get("statistics")) is not None:
            self._world.take_statistics(networks_of(self._method), statistics.to(self._device))
        self._method.meter.load_state_dict(state["meter"], self._device)
        log.info("resumed from %s at step %d", path, self.step)
        planned, steps = state["identity"]["trainer"]["steps"], self._recipe.trainer.steps
        if planned < steps and self._recipe.trainer.schedule != "constant":
            self.standing.grown.append((self.step, planned))
            log.warning(
                "goes on to step %d, though it was begun for %d: from here on its learning rates are those of %d "
                "steps, so it ends otherwise than a training of as many from its start",
                *(steps, planned, steps),
            )

    def _accept(self, path: Path, state: dict[str, Any]) -> None:
        ours, theirs = identity_of(self._recipe, self._dataset), state["identity"]
        if reason := refusal(ours, theirs, any_accumulation=self._any_accumulation):
            raise ForeignCheckpointError(
                f"{path} {reason}, or train in another directory than {self._directory} (--to), where it begins anew"
            )

    def save(self) -> None:
        """Begin to write the state, as it is now, as a checkpoint; all workers do so together."""
        meter = self._method.meter.state_dict()
        statistics = self._world.own_statistics(networks_of(self._method))
        if self._world.leads:
            # There is one copy of the state at a time.
            self.writing.wait()
            state = {
                "identity": identity_of(self._recipe, self._dataset),
                **asdict(self.standing),
                "meter": meter,
                "statistics": statistics,
                "method": self._method.state_dict(),
            }
            kept = Kept(newest=self._newest_kept, best=self.standing.best_step)
            self.writing.begin(partial(self._write, self.standing.step, host_copy(state, self._device), kept))
        self.step = self.standing.step

    def _write(self, step: int, state: dict[str, Any], kept: Kept) -> None:
        self._guard.check()
        try:
            self._keeper.keep(save_checkpoint(self._root, step, state, kept), kept)
        except OSError:
            # A newer attempt clears away what an older one is writing.
            self._guard.check()
            raise

    def wait(self) -> None:
        """Wait, all workers, until the checkpoint that is being written is there: the end of one ends the others."""
        self.writing.wait()
        self._world.barrier()

    def clear(self) -> None:
        """Take away what killed attempts left half written."""
        if self._world.leads:
            self._guard.check()
            drop_partials(self._root)

    def reopen(self) -> None:
        """Drop the outcome of a training that had finished here but whose last checkpoint is gone or damaged."""
        if self._world.leads and read_outcome(self._directory) is not None:
            self._guard.check()
            drop_outcome(self._directory)

    def finish(self) -> None:
        """Leave the outcome, if a kill after the last checkpoint or damage did not leave it there."""
        if self._world.leads and read_outcome(self._directory) != (outcome := self.outcome()):
            self._guard.check()
            write_outcome(self._directory, outcome)

    def outcome(self) -> Outcome:
        """What the training has come to."""
        standing = self.standing
        return Outcome(
            step=standing.step,
            metrics=standing.metrics,
            best_miou=standing.best_miou,
            best_step=standing.best_step,
            dataset_digest=self._dataset.digest,
        )

    def goes_back(self, model: Path) -> bool:
        """Go back to the best step, of which a checkpoint is kept; no if that is lost, but not its model.

        Where that is gone or damaged, a whole model of that step that lies at `model` stays, and else the training
        stands where it stood; a warning says so.
        """
        standing = self.standing
        if standing.best_step in (0, standing.step):
            return True
        checkpoint = checkpoint_at(self._root, standing.best_step)
        try:
            if not checkpoint.exists():
                self._keeper.bring(checkpoint)
            state = load_checkpoint(checkpoint)
        except BrokenDirectoryError as error:
            if kept := self._is_of_best_step(model):
                log.warning("%s stays, which is of the best step, %d: %s", model, standing.best_step, error)
            else:
                log.warning("the model is that of step %d, the last: of the best one %s", standing.step, error)
            return not kept
        standing.step, standing.metrics = state["step"], state["metrics"]
        self._method.load_state_dict(state["method"])
        return True

    def _is_of_best_step(self, model: Path) -> bool:
        """Whether a model lies there whole that was this training's at its best step."""
        standing = self.standing
        try:
            card = read_card(model)
        except BrokenDirectoryError:
            return False
        return (card.lineage.get("step"), card.metrics.get("val/miou")) == (standing.best_step, standing.best_miou)
