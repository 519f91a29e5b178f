"""The training loop: draw a batch, step, and from time to time evaluate, report and save."""

import logging
import socket
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from PIL import Image
from torch import Tensor, nn

from ..models.architectures import build_segmenter, normalisation_of
from ..models.pretrained import PretrainedError
from ..models.segmenter import Segmenter
from .batches import Batches
from .checkpoint import packed
from .data.class_pixels import class_pixels
from .data.dataset import Dataset
from .data.scaled import other_resize
from .devices import usual_device
from .distributed import World
from .drawing import Drawn
from .errors import BrokenEnvironmentError, CollapseError, LostProcessError, PreemptedError, UserError
from .evaluate import Evaluation, evaluate
from .figures import Figures, work_of_steps
from .guard import Guard, Unguarded
from .header import header
from .health import symptoms
from .keeper import InPlace, Keeper
from .kept import Export, Kept
from .methods.method import Batch, networks_of
from .methods.table import build_method
from .outcome import Outcome
from .pictures.report import draw_report
from .profiling import DRAW, MOVE, STEP, phase, tracing
from .progress import tick, underway
from .recipe import Recipe
from .reporter import Report, Reporter
from .resuming import begin
from .saved import Saved
from .settings import DTYPES
from .trained_card import trained_card
from .waiting import Timed, watching

log = logging.getLogger(__name__)

_ASK_EVERY = 8
"""Steps after which several workers ask each other whether to stop."""


class Training:
    """One run in one directory. Running it again resumes from its newest whole checkpoint."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        directory: Path,
        *,
        world: World | None = None,
        device: torch.device | None = None,
        weights: Path | None = None,
        guard: Guard | None = None,
        keeper: Keeper | None = None,
        kept: int = Kept.newest,
        any_accumulation: bool = False,
    ) -> None:
        """`weights` is where the recipe's start weights lie here, if that is not the path that it names.

        `kept` is how many of the newest checkpoints stay, beside that of the best step.
        With `any_accumulation` it resumes also from a checkpoint of a run that divided its batches otherwise.
        """
        self.recipe = recipe
        self.dataset = dataset
        self.directory = directory
        self.world = world or World()
        self._device = device or usual_device()
        if self._device.type == "cuda" and self._device.index is not None:
            # Streams, graphs and NCCL's barrier take the current one.
            torch.cuda.set_device(self._device)
        self._weights = weights
        self._guard = guard or Unguarded()
        settings, segmenting = recipe.trainer, recipe.segmenter
        for key, size in settings.micro_batches.items():
            if size < self.world.size * (least := segmenting.least_share):
                raise UserError(
                    f"trainer.{key} is {size * settings.accumulation} in {settings.accumulation} micro-batches, but "
                    f"{self.world.size} workers need {'an image' if least == 1 else f'{least} images'} of each: "
                    f"raise it or use fewer workers"
                )
        recipe.method.check_dataset(dataset)
        weights_of_classes, classes = settings.class_weights, dataset.classes
        if isinstance(weights_of_classes, tuple) and len(weights_of_classes) != len(classes):
            raise UserError(
                f"trainer.class_weights must be one for each class, but are {len(weights_of_classes)} and the dataset "
                f"has {len(classes)}, {', '.join(classes)}: list {len(classes)}, or take balanced"
            )
        if other := other_resize(dataset.resized, settings.resize):
            raise UserError(other)
        if settings.speed.graphs and (self._device.type != "cuda" or self.world.size > 1):
            raise UserError(
                f"trainer.speed.graphs is true, but graphs are for one worker on a GPU, and this is one of "
                f"{self.world.size} on a device of type {self._device.type}: set it to false"
            )
        synchronised = segmenting.norm == "synchronised" and self.world.size > 1
        if synchronised and self._device.type == "cpu":
            raise UserError(
                f"model.batch_norm is synchronised, which several workers need GPUs for, but the {self.world.size} "
                f"have none: set it to batch or frozen, or use one worker"
            )
        self._dtype = DTYPES[settings.precision]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            try:
                self._normalisation = normalisation_of(segmenting)
                segmenter = build_segmenter(segmenting, len(dataset.classes)).to(self._device, self._dtype)
            except PretrainedError as error:
                raise UserError(str(error)) from None
            crop = settings.augmentation.crop
            if any(side % segmenter.multiple for side in crop):
                fitting = (-(-side // segmenter.multiple) * segmenter.multiple for side in crop)
                raise UserError(
                    f"trainer.augmentation.crop is {crop[0]} x {crop[1]}, but sides must be multiples of "
                    f"{segmenter.multiple} for this network: take {' x '.join(map(str, fitting))}"
                )
            if synchronised:
                nn.SyncBatchNorm.convert_sync_batchnorm(segmenter)
            self.method = build_method(
                recipe.method,
                settings,
                segmenter,
                classes=len(dataset.classes),
                ignore_index=dataset.ignore_index,
                world=self.world,
            )
        self.batches = Batches(
            settings, dataset, self.method.wants, self._normalisation, world=self.world, device=self._device
        )
        self.saved = Saved(
            recipe,
            dataset,
            self.method,
            directory,
            world=self.world,
            device=self._device,
            guard=self._guard,
            keeper=keeper or InPlace(),
            kept=kept,
            any_accumulation=any_accumulation,
        )

    @property
    def step(self) -> int:
        """Steps made so far."""
        return self.saved.standing.step

    @property
    def device(self) -> torch.device:
        """What it trains on."""
        return self._device

    def run(self, reporter: Reporter, *, trace: Path | None = None) -> Outcome:
        """Train to the end and report; as `reports`, and raises whatever the reporter raises."""
        with closing(self.reports(trace=trace)) as reports:
            for report in reports:
                reporter.report(report)
        return self.saved.outcome()

    def reports(self, *, trace: Path | None = None) -> Generator[Report]:
        """Train to the end, from the newest whole checkpoint or else from the recipe's start weights.

        Checkpoints are written while it goes on. Each report comes before that of its step is begun, and after all of
        before are there; so are they however it ends. `trace` is a folder for a trace of a few steps.

        Raises NonFiniteLossError, CollapseError, CheckpointError, UserError for weights that do not fit, FencedError,
        OSError where the disk is full, and PreemptedError once the guard asked to stop and the state is saved.
        """
        settings = self.recipe.trainer
        self.saved.clear()
        if self.world.leads:
            for line in header(self.recipe, self.dataset, self.method.segmenter, self._device, self.world.size):
                log.info(line)
        self.saved.resume()
        tick()
        if self.step == 0:
            if settings.class_weights == "balanced" and self.world.leads:
                self.method.labelled_loss.balance(self._class_pixels())
            begun = begin(self.method, self.recipe.segmenter, self._weights, self.world, self._device)
            self.saved.standing.start_weights = begun
            tick()
        if self.step == settings.steps:
            yield self._report({}, {})
        else:
            self.saved.reopen()
        drawn = Timed(self.batches.drawn_ahead(range(self.step, settings.steps)))
        figures = self._figures(drawn)
        with (
            self.saved.writing,
            closing(watching(drawn, self.dataset) if self.world.leads else drawn) as batches,
            tracing(trace) as tracer,
            underway("steps", settings.steps) as done,
        ):
            while self.step < settings.steps:
                with phase(DRAW):
                    parts = self._next(batches)
                # What is waited for the first is the start of the processes that draw: it counts in no figure.
                done(self.step, self._newest_miou())
                figures.begin()
                with phase(MOVE):
                    batch = self.batches.on_device(parts)
                with phase(STEP):
                    self.method.step(self.step, batch)
                figures.made(self.step)
                self.saved.standing.step += 1
                tick()
                tracer.step()
                self.saved.writing.look()
                if settings.evaluates(self.step):
                    yield from self._conclude(figures)
                if settings.saves(self.step, self.saved.standing.best_step):
                    figures.pause()
                    self.saved.save()
                if self._must_stop():
                    self._stop()
                figures.begin()
            done(self.step, self._newest_miou())
            self.saved.wait()
        self.saved.finish()

    def _class_pixels(self) -> Tensor:
        data = self.dataset
        counts = class_pixels(data.labelled, len(data.classes), data.ignore_index, self.recipe.trainer.resize)
        return torch.from_numpy(counts)

    def _next(self, batches: Iterator[list[Drawn]]) -> list[Drawn]:
        try:
            return next(batches)
        except LostProcessError:
            # What asks a machine's processes to stop ends those that draw. Several workers could not agree on the step.
            if self.world.size == 1 and self._guard.asked_to_stop():
                self._stop()
            raise

    def _stop(self) -> NoReturn:
        if self.saved.step != self.step:
            self.saved.save()
        self.saved.wait()
        raise PreemptedError(f"asked to stop, and saved at step {self.step}") from None

    def _figures(self, drawn: Timed[list[Drawn]]) -> Figures:
        classes, ignored = len(self.dataset.classes), self.dataset.ignore_index
        work = work_of_steps(self.recipe, classes, ignored, self.method.wants, self.world.size, self._device)
        return Figures(drawn, work, self._device)

    def _conclude(self, figures: Figures) -> Iterator[Report]:
        """Evaluate and report."""
        means, measured = self.method.meter.take(), figures.take()
        evaluation = self.evaluate()
        self._compare_workers()
        rates = {f"lr/{network}": rate for network, rate in self.method.rates(self.step - 1).items()}
        self.saved.standing.judged({**means, **rates, **evaluation.metrics})
        pictures = self.pictures(evaluation) if self.world.leads else {}
        self.saved.wait()
        yield self._report(pictures, measured)
        self._watch(evaluation)

    def _compare_workers(self) -> None:
        """Raises BrokenEnvironmentError where workers no longer have the same networks."""
        _, tensors = packed(self.method.state_dict())
        strayed = self.world.strayed(tensors.values(), self._device)
        if not strayed:
            return
        first, *_ = hosts = self.world.tell(socket.gethostname(), self._device)
        who = ", ".join(f"{rank} of {self.world.size} on {hosts[rank]}" for rank in strayed)
        raise BrokenEnvironmentError(
            f"step {self.step}: other weights than worker 0 on {first} has, though all learn from the same sums, has "
            f"worker {who}: train on machines of one kind that work; it goes on from the newest checkpoint"
        )

    def _newest_miou(self) -> str:
        metrics = self.saved.standing.metrics
        return f"mIoU {metrics['val/miou']:.1f}" if metrics else ""

    def _must_stop(self) -> bool:
        """Whether the guard of any worker asks to stop; all of them learn of it at the same step."""
        if self.world.size == 1:
            return self.step < self.recipe.trainer.steps and self._guard.asked_to_stop()
        # To ask the others waits for them and for the device.
        turn = self.step % _ASK_EVERY == 0 and self.step < self.recipe.trainer.steps
        return turn and self.world.any(self._guard.asked_to_stop(), self._device)

    def export(self, path: Path, lineage: dict[str, Any], which: Export = "last") -> None:
        """Write the trained model as a directory that `advseg.models.load` reads.

        With `best` it is that of the best step, at which this training then stands. Where the checkpoint of that is
        gone or damaged, a whole model of that step that lies there already stays, and else it is the last one; a
        warning says so.
        """
        if which == "last" or self.saved.goes_back(path):
            self.method.export(path, trained_card(self.recipe, self.dataset, self.saved.standing, lineage))

    def batch(self, step: int) -> list[Batch]:
        """This worker's share of a step's micro-batches, on the training device; the same whenever it is asked."""
        return self.batches.on_device(self.batches.draw(step))

    def _watch(self, evaluation: Evaluation) -> None:
        """Say what goes wrong, and raise CollapseError once it has gone on for too long."""
        standing = self.saved.standing
        found = (*self.method.symptoms(standing.metrics), *symptoms(evaluation.matrix, self.dataset.classes))
        standing.collapsed = standing.collapsed + 1 if found else 0
        for symptom in found if self.world.leads else ():
            log.warning("step %d: %s", standing.step, symptom)
        if found and standing.collapsed == self.recipe.trainer.collapse_patience:
            raise CollapseError(
                f"step {standing.step}, after {standing.collapsed} such reports in a row: {'; '.join(found)}; "
                f"trainer.collapse_patience sets how many are allowed"
            )

    def evaluate(self) -> Evaluation:
        """What all workers together find by the validation images, as for a report."""
        # From here on all workers evaluate, and the leading one saves, the same network.
        self.world.mean_statistics(networks_of(self.method))
        found = self._evaluated(self.method.segmenter)
        if self.method.student is self.method.segmenter:
            return found
        beside = {"val/student_miou": self._evaluated(self.method.student).metrics["val/miou"]}
        return replace(found, metrics={**found.metrics, **beside})

    def _evaluated(self, network: Segmenter) -> Evaluation:
        return evaluate(
            network,
            self.dataset,
            self._normalisation,
            settings=replace(self.recipe.trainer.evaluation, scales=(), flip=False),
            resize=self.recipe.trainer.resize,
            world=self.world,
            device=self._device,
            dtype=self._dtype,
            speed=self.recipe.trainer.speed,
        )

    def pictures(self, evaluation: Evaluation) -> dict[str, Image.Image]:
        """Those that go with a report, by their files."""
        settings = self.recipe.trainer
        return draw_report(
            self.step, evaluation, self.dataset, self.method, self._normalisation, settings, self._device
        )

    def _report(self, pictures: dict[str, Image.Image], figures: dict[str, float]) -> Report:
        steps, metrics = self.recipe.trainer.steps, self.saved.standing.metrics
        return Report(step=self.step, steps=steps, metrics=metrics, figures=figures, pictures=pictures)
