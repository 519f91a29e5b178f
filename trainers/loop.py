"""The training loop: draw a batch, step, and from time to time evaluate, report and save."""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..models.architectures import DeepLabSettings, build_segmenter, normalisation_of
from ..models.bundle import Card
from ..models.bundle import save as save_model
from ..models.discriminator import build_discriminator
from ..models.weights import WeightsError, load_weights
from .adversarial import AdversarialTrainer, Batch
from .ahead import ahead
from .checkpoint import load_scalars, newest_checkpoint, save_checkpoint
from .data.dataset import Dataset
from .data.samples import Sample
from .data.streams import Crops, Stream
from .differences import differences
from .distributed import World
from .errors import CheckpointError, CollapseError, PreemptedError, UserError
from .evaluate import Evaluation, evaluate
from .guard import Guard, Unguarded
from .health import symptoms
from .identity import identity_of
from .metrics import class_iou
from .pictures.class_bars import draw_class_bars
from .pictures.confusion import draw_confusion
from .pictures.validation import draw_validation
from .profiling import DRAW, MOVE, STEP, phase, tracing
from .recipe import DTYPES, Recipe
from .reporter import Report, Reporter

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
PANELS = "panels"
"""Folder of the validation panels, one a report."""
CONFUSION, CLASS_BARS = "confusion.png", "classes.png"
"""Pictures of the newest evaluation."""
_ASK_EVERY = 8
"""Steps after which several workers ask each other whether to stop."""


@dataclass(frozen=True, kw_only=True)
class _Drawn:
    """A worker's share of a part of a batch, before it is on the training device."""

    labelled: Crops
    real: Tensor | None
    """Labels of a draw of their own, for the discriminator."""
    unlabelled: Crops | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Where a run stands."""

    step: int
    metrics: dict[str, float]
    best_miou: float


def read_outcome(directory: Path) -> Outcome | None:
    """Where the run in a directory stands by its newest whole checkpoint, None before the first.

    Raises CheckpointError if all are damaged or the newest one has another format.
    """
    found = newest_checkpoint(directory / CHECKPOINTS, load_scalars)
    if found is None:
        return None
    _, state = found
    return Outcome(step=state["step"], metrics=state["metrics"], best_miou=state["best_miou"])


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
        any_accumulation: bool = False,
    ) -> None:
        """`weights` is where the recipe's start weights lie here, if that is not the path that it names.

        With `any_accumulation` it resumes also from a checkpoint of a run that divided its batches otherwise.
        """
        self.recipe = recipe
        self.dataset = dataset
        self.directory = directory
        self.world = world or World()
        self._device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._weights = weights
        self._guard = guard or Unguarded()
        self._any_accumulation = any_accumulation
        settings, segmenting = recipe.trainer, recipe.segmenter
        if settings.micro_batch_size < self.world.size:
            raise UserError(
                f"trainer.batch_size is {settings.batch_size} in {settings.accumulation} parts, but "
                f"{self.world.size} workers need an image of each part: raise it or use fewer workers"
            )
        if settings.uses_unlabelled and not dataset.unlabelled:
            raise UserError(
                "the dataset has no unlabelled images, but trainer.lambda_semi or lambda_semi_adv is above 0: "
                "name a list in dataset.unlabelled, lower dataset.fraction, or set both to 0"
            )
        synchronised = (
            isinstance(segmenting, DeepLabSettings) and segmenting.batch_norm == "synchronised" and self.world.size > 1
        )
        if synchronised and self._device.type == "cpu":
            raise UserError(
                f"model.batch_norm is synchronised, which several workers need GPUs for, but the {self.world.size} "
                f"have none: set it to batch or frozen, or use one worker"
            )
        self._dtype = DTYPES[settings.precision]
        self._normalisation = normalisation_of(recipe.segmenter)
        self._step = 0
        self._saved = 0
        """Step of the newest checkpoint."""
        self._best_miou = 0.0
        self._collapsed = 0
        """Reports in a row that told of a collapse."""
        self._metrics: dict[str, float] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            segmenter = build_segmenter(recipe.segmenter, len(dataset.classes)).to(self._device, self._dtype)
            discriminator = None
            if settings.uses_discriminator:
                discriminator = build_discriminator(recipe.discriminator, len(dataset.classes)).to(
                    self._device, self._dtype
                )
        if synchronised:
            nn.SyncBatchNorm.convert_sync_batchnorm(segmenter)
        self.trainer = AdversarialTrainer(
            settings,
            segmenter,
            discriminator,
            ignore_index=dataset.ignore_index,
            world=self.world,
            speed=settings.speed,
        )
        self._labelled = self._stream(dataset.labelled, "labelled")
        self._real = self._stream(dataset.labelled, "real")
        self._unlabelled = self._stream(dataset.unlabelled, "unlabelled")

    @property
    def step(self) -> int:
        """Steps made so far."""
        return self._step

    def run(self, reporter: Reporter, *, trace: Path | None = None) -> Outcome:
        """Train to the end and report; as `reports`, and raises whatever the reporter raises."""
        with closing(self.reports(trace=trace)) as reports:
            for report in reports:
                reporter.report(report)
        return Outcome(step=self._step, metrics=self._metrics, best_miou=self._best_miou)

    def reports(self, *, trace: Path | None = None) -> Generator[Report]:
        """Train to the end, from the newest whole checkpoint or else from the recipe's start weights.

        Each report comes before the checkpoint of its step is written. `trace` is a folder for a trace of a few steps.

        Raises NonFiniteLossError, CollapseError, CheckpointError, UserError for weights that do not fit, FencedError,
        and PreemptedError once the guard asked to stop and the state is saved.
        """
        settings = self.recipe.trainer
        self.resume()
        if self._step == 0:
            self._take_start_weights()
        if self._step == settings.steps:
            yield self._report({})
        steps = range(self._step, settings.steps)
        with closing(ahead(self._draw, steps, settings.speed.prefetch)) as batches, tracing(trace) as tracer:
            while self._step < settings.steps:
                with phase(DRAW):
                    drawn = next(batches)
                with phase(MOVE):
                    batch = [self._on_device(part) for part in drawn]
                with phase(STEP):
                    self.trainer.step(self._step, batch)
                self._step += 1
                tracer.step()
                if self._step % settings.evaluate_every == 0 or self._step == settings.steps:
                    yield from self._conclude()
                if self._must_stop():
                    if self._saved != self._step:
                        self._save()
                    raise PreemptedError(f"asked to stop, and saved at step {self._step}")

    def _conclude(self) -> Iterator[Report]:
        """Evaluate, report and save."""
        figures, evaluation = self.trainer.meter.take(), self._evaluate()
        self._metrics = {**figures, **self._rates(), **evaluation.metrics}
        self._best_miou = max(self._best_miou, self._metrics["val/miou"])
        yield self._report(self._draw_pictures(evaluation) if self.world.leads else {})
        self._watch(evaluation)
        self._save()

    def _must_stop(self) -> bool:
        """Whether the guard of any worker asks to stop; all of them learn of it at the same step."""
        if self.world.size == 1:
            return self._step < self.recipe.trainer.steps and self._guard.asked_to_stop()
        # To ask the others waits for them and for the device.
        turn = self._step % _ASK_EVERY == 0 and self._step < self.recipe.trainer.steps
        return turn and self.world.any(self._guard.asked_to_stop(), self._device)

    def export(self, path: Path, lineage: dict[str, Any]) -> None:
        """Write the trained model as a directory that `advseg.models.load` reads."""
        trainer = self.trainer
        card = Card(
            segmenter=replace(self.recipe.segmenter, weights=None),
            discriminator=self.recipe.discriminator if trainer.discriminator else None,
            classes=self.dataset.classes,
            palette=self.dataset.palette,
            ignore_index=self.dataset.ignore_index,
            normalisation=self._normalisation,
            resize=self.recipe.trainer.resize,
            metrics=self._metrics,
            lineage={**lineage, "step": self._step, "dataset_digest": self.dataset.digest},
        )
        discriminator = _float32(trainer.discriminator) if trainer.discriminator else None
        save_model(path, card, _float32(trainer.segmenter), discriminator)

    def _stream(self, samples: tuple[Sample, ...], split: str) -> Stream:
        settings = self.recipe.trainer
        return Stream(
            samples,
            digest=self.dataset.digest,
            split=split,
            seed=settings.seed,
            batch_size=settings.batch_size,
            augmentation=settings.augmentation,
            ignore_index=self.dataset.ignore_index,
            resize=settings.resize,
            device=self._device if settings.speed.augment_on_device else None,
            pinned=self._device.type == "cuda",
        )

    def batch(self, step: int) -> list[Batch]:
        """This worker's share of each part of a step's batch, on the training device; the same whenever it is asked."""
        return [self._on_device(part) for part in self._draw(step)]

    def _draw(self, step: int) -> list[_Drawn]:
        """This worker's share of each part of a step's batch."""
        size = self.recipe.trainer.micro_batch_size
        starts = range(0, self.recipe.trainer.batch_size, size)
        return [self._drawn(step, [start + slot for slot in self.world.share(size)]) for start in starts]

    def _drawn(self, step: int, slots: Sequence[int]) -> _Drawn:
        settings = self.recipe.trainer
        return _Drawn(
            labelled=self._labelled.crops(step, slots),
            real=self._real.labels(step, slots) if settings.uses_discriminator else None,
            unlabelled=self._unlabelled.crops(step, slots) if settings.uses_unlabelled_at(step) else None,
        )

    def _on_device(self, drawn: _Drawn) -> Batch:
        labelled, real, unlabelled = drawn.labelled, drawn.real, drawn.unlabelled
        return Batch(
            images=self._normalise(labelled),
            labels=self._ids(labelled.labels),
            real_labels=None if real is None else self._ids(real),
            unlabelled=self._normalise(unlabelled) if unlabelled else None,
            unlabelled_valid=self._there(unlabelled.valid) if unlabelled else None,
            unlabelled_labels=self._ids(unlabelled.labels) if unlabelled else None,
        )

    def _normalise(self, crops: Crops) -> Tensor:
        """Images as the network reads them, zero on padding."""
        # Arithmetic by channel is several times faster on a CPU where each channel lies by itself.
        images = self._normalisation(self._there(crops.images).contiguous(), self._dtype)
        images *= self._there(crops.valid).unsqueeze(1)
        return images.contiguous(memory_format=self.recipe.trainer.speed.memory_format)

    def _ids(self, labels: Tensor) -> Tensor:
        return self._there(labels).long()

    def _there(self, tensor: Tensor) -> Tensor:
        """A tensor on the training device, as soon as it is needed there; nothing waits for it here."""
        return tensor.to(self._device, non_blocking=True)

    def _rates(self) -> dict[str, float]:
        return {f"lr/{network}": rate for network, rate in self.trainer.rates(self._step - 1).items()}

    def _watch(self, evaluation: Evaluation) -> None:
        """Say what goes wrong, and raise CollapseError once it has gone on for too long."""
        found = symptoms(self._metrics, evaluation.matrix, self.dataset.classes)
        self._collapsed = self._collapsed + 1 if found else 0
        for symptom in found if self.world.leads else ():
            log.warning("step %d: %s", self._step, symptom)
        if found and self._collapsed == self.recipe.trainer.collapse_patience:
            raise CollapseError(
                f"step {self._step}, after {self._collapsed} such reports in a row: {'; '.join(found)}; "
                f"trainer.collapse_patience sets how many are allowed"
            )

    def _evaluate(self) -> Evaluation:
        # From here on all workers evaluate, and the leading one saves, the same network.
        self.world.mean_statistics(self.trainer.segmenter)
        return evaluate(
            self.trainer.segmenter,
            self.dataset,
            self._normalisation,
            settings=replace(self.recipe.trainer.evaluation, scales=(), flip=False),
            resize=self.recipe.trainer.resize,
            world=self.world,
            device=self._device,
            dtype=self._dtype,
            speed=self.recipe.trainer.speed,
        )

    def _draw_pictures(self, evaluation: Evaluation) -> dict[str, Image.Image]:
        """What the segmenter makes of the validation images, by file name."""
        settings, dataset = self.recipe.trainer, self.dataset
        panel = draw_validation(
            dataset,
            self.trainer.segmenter,
            self.trainer.discriminator,
            self._normalisation,
            threshold=settings.threshold if settings.lambda_semi > 0 else None,
            resize=settings.resize,
            device=self._device,
            dtype=self._dtype,
            speed=settings.speed,
        )
        iou = class_iou(evaluation.matrix, dataset.ignore_index)
        return {
            f"{PANELS}/step-{self._step:08d}.png": panel,
            CONFUSION: draw_confusion(evaluation.matrix.numpy(), dataset.classes),
            CLASS_BARS: draw_class_bars(iou, dataset.classes, dataset.palette),
        }

    def _report(self, pictures: dict[str, Image.Image]) -> Report:
        return Report(step=self._step, steps=self.recipe.trainer.steps, metrics=self._metrics, pictures=pictures)

    def _save(self) -> None:
        meter = self.trainer.meter.state_dict()
        if self.world.leads:
            self._guard.check()
            state = {
                "identity": identity_of(self.recipe, self.dataset),
                "step": self._step,
                "best_miou": self._best_miou,
                "collapsed": self._collapsed,
                "metrics": self._metrics,
                "meter": meter,
                "trainer": self.trainer.state_dict(),
            }
            save_checkpoint(self.directory / CHECKPOINTS, self._step, state)
        self._saved = self._step
        self.world.barrier()

    def _take_start_weights(self) -> None:
        """Put the recipe's start weights, if it names any, in the place of the fresh ones. Raises UserError."""
        settings = self.recipe.segmenter
        if settings.weights is None:
            return
        try:
            loaded = load_weights(self.trainer.segmenter, settings, self._weights or Path(settings.weights))
        except WeightsError as error:
            raise UserError(str(error)) from None
        log.info(loaded)

    def resume(self) -> None:
        """Take up the newest whole checkpoint, if there is one.

        Raises CheckpointError if it belongs to other settings or other data, if it has another format, or if there
        are only damaged ones.
        """
        found = newest_checkpoint(self.directory / CHECKPOINTS)
        if found is None:
            return
        path, state = found
        ours, theirs = identity_of(self.recipe, self.dataset), state["identity"]
        if self._any_accumulation:
            theirs["trainer"]["accumulation"] = ours["trainer"]["accumulation"]
        if differing := differences(ours, theirs):
            raise CheckpointError(
                f"{path} belongs to other settings or data than this run's: {differing}: "
                f"restore them, or train in another directory than {self.directory}"
            )
        self._step, self._best_miou, self._metrics = state["step"], state["best_miou"], state["metrics"]
        self._collapsed, self._saved = state["collapsed"], state["step"]
        self.trainer.load_state_dict(state["trainer"])
        # Older versions saved at reports only, when it is empty.
        self.trainer.meter.load_state_dict(state.get("meter", {}), self._device)
        log.info("resumed from %s at step %d", path, self._step)


def _float32(network: nn.Module) -> dict[str, Tensor]:
    """A network's state in single precision and in the usual order of memory."""
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in network.state_dict().items()
    }
