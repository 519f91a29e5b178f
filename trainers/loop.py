"""The training loop: draw a batch, step, and from time to time evaluate, report and save."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..models.architectures import NORMALISATIONS, SegmenterSettings, build_segmenter
from ..models.bundle import Card
from ..models.bundle import save as save_model
from ..models.discriminator import DiscriminatorSettings, build_discriminator
from ..models.settings import Interval, Settings
from .adversarial import AdversarialTrainer, Batch, MethodSettings
from .checkpoint import newest_checkpoint, save_checkpoint
from .data.augment import AugmentationSettings
from .data.dataset import Dataset, Sample
from .data.images import read_image, read_mask
from .data.streams import Crops, Stream
from .distributed import World
from .errors import CheckpointError, UserError
from .evaluate import evaluate
from .panels import colour, compose, heat
from .reporter import Report, Reporter

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
PANEL_ROWS = 4
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class TrainerSettings(MethodSettings):
    """A whole run of training: the method's knobs, the batches and the rhythm of evaluation."""

    batch_size: Annotated[int, Interval(1)] = 10
    """Labelled images a step, over all workers; as many unlabelled ones go with them."""
    seed: Annotated[int, Interval(0, 2**63, open_high=True)] = 0
    augmentation: AugmentationSettings
    evaluate_every: Annotated[int, Interval(1)] = 1000
    """Steps between two evaluations, each with a report and a checkpoint."""
    precision: Literal["float32", "float64"] = "float32"


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """Everything but the data that determines the weights at the end."""

    segmenter: SegmenterSettings
    discriminator: DiscriminatorSettings
    trainer: TrainerSettings

    def __post_init__(self) -> None:
        super().__post_init__()
        side, crop = self.discriminator.smallest_side, self.trainer.augmentation.crop
        if self.trainer.uses_discriminator and min(crop) < side:
            raise ValueError(
                f"trainer.augmentation.crop is {crop[0]} x {crop[1]}, but a discriminator of "
                f"{len(self.discriminator.widths)} {self.discriminator.classifier} stages needs {side} pixels "
                f"each way: take larger crops, fewer discriminator.widths or a dense classifier"
            )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Where a run stands."""

    step: int
    metrics: dict[str, float]
    best_miou: float


def read_outcome(directory: Path) -> Outcome | None:
    """Where the run in a directory stands by its newest whole checkpoint, None before the first."""
    found = newest_checkpoint(directory / CHECKPOINTS)
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
    ) -> None:
        self.recipe = recipe
        self.dataset = dataset
        self.directory = directory
        self.world = world or World()
        self._device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        settings = recipe.trainer
        if settings.batch_size < self.world.size:
            raise UserError(
                f"trainer.batch_size is {settings.batch_size}, but {self.world.size} workers need an image each: "
                f"raise it or use fewer workers"
            )
        self._dtype = DTYPES[settings.precision]
        self._normalisation = NORMALISATIONS[recipe.segmenter.architecture]
        self._step = 0
        self._best_miou = 0.0
        self._metrics: dict[str, float] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            segmenter = build_segmenter(recipe.segmenter, len(dataset.classes)).to(self._device, self._dtype)
            discriminator = None
            if settings.uses_discriminator:
                discriminator = build_discriminator(recipe.discriminator, len(dataset.classes)).to(
                    self._device, self._dtype
                )
        self.trainer = AdversarialTrainer(
            settings, segmenter, discriminator, ignore_index=dataset.ignore_index, world=self.world
        )
        self._labelled = self._stream(dataset.labelled, "labelled")
        self._real = self._stream(dataset.labelled, "real")
        self._unlabelled = self._stream(dataset.unlabelled, "unlabelled")

    def run(self, reporter: Reporter) -> Outcome:
        """Train to the end. Raises NonFiniteLossError, CheckpointError, and whatever the reporter raises."""
        settings = self.recipe.trainer
        self.resume()
        if self._step == settings.steps:
            reporter.report(self._report())
        while self._step < settings.steps:
            self.trainer.step(self._step, self._batch(self._step))
            self._step += 1
            if self._step % settings.evaluate_every == 0 or self._step == settings.steps:
                self._metrics = {**self.trainer.meter.take(), **self._rates(), **self._evaluate()}
                self._best_miou = max(self._best_miou, self._metrics["val/miou"])
                reporter.report(self._report())
                self._save()
        return Outcome(step=self._step, metrics=self._metrics, best_miou=self._best_miou)

    def export(self, path: Path, lineage: dict[str, Any]) -> None:
        """Write the trained model as a directory that `advseg.models.load` reads."""
        trainer = self.trainer
        card = Card(
            segmenter=self.recipe.segmenter,
            discriminator=self.recipe.discriminator if trainer.discriminator else None,
            classes=self.dataset.classes,
            palette=self.dataset.palette,
            ignore_index=self.dataset.ignore_index,
            normalisation=self._normalisation,
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
        )

    def _batch(self, step: int) -> Batch:
        settings = self.recipe.trainer
        slots = self.world.share(settings.batch_size)
        labelled = self._labelled.crops(step, slots)
        real = self._real.crops(step, slots) if settings.uses_discriminator else None
        unlabelled = self._unlabelled.crops(step, slots) if settings.uses_unlabelled else None
        return Batch(
            images=self._normalise(labelled),
            labels=labelled.labels.to(self._device),
            real_labels=real.labels.to(self._device) if real else None,
            unlabelled=self._normalise(unlabelled) if unlabelled else None,
            unlabelled_valid=unlabelled.valid.to(self._device) if unlabelled else None,
            unlabelled_labels=unlabelled.labels.to(self._device) if unlabelled else None,
        )

    def _normalise(self, crops: Crops) -> Tensor:
        """Images as the network reads them, zero on padding."""
        images = self._normalisation(crops.images.to(self._device, self._dtype))
        return images * crops.valid.to(self._device).unsqueeze(1)

    def _rates(self) -> dict[str, float]:
        return {f"lr/{network}": rate for network, rate in self.trainer.rates(self._step - 1).items()}

    def _evaluate(self) -> dict[str, float]:
        return evaluate(
            self.trainer.segmenter,
            self.dataset,
            self._normalisation,
            world=self.world,
            device=self._device,
            dtype=self._dtype,
        )

    def _report(self) -> Report:
        panel = self._panel() if self.world.leads else None
        return Report(step=self._step, steps=self.recipe.trainer.steps, metrics=self._metrics, panel=panel)

    @torch.inference_mode()
    def _panel(self) -> Image.Image:
        data, trainer = self.dataset, self.trainer
        images = [read_image(sample.image) for sample in data.validation[:PANEL_ROWS]]
        side = self.recipe.discriminator.smallest_side
        judge = trainer.discriminator if all(min(image.shape[:2]) >= side for image in images) else None
        titles = ["image", "truth", "prediction", *(["confidence"] if judge else [])]
        rows = []
        trainer.segmenter.eval()
        for sample, image in zip(data.validation, images, strict=False):
            assert sample.mask
            pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(self._device, self._dtype)
            probabilities = trainer.segmenter(self._normalisation(pixels)).softmax(1)
            predicted = probabilities.argmax(1)[0].cpu().numpy().astype(np.uint8)
            masks = [read_mask(sample.mask), predicted]
            row = [image, *(colour(mask, data.palette, data.ignore_index) for mask in masks)]
            if judge:
                row.append(heat(judge(probabilities).sigmoid()[0, 0].cpu().numpy()))
            rows.append(row)
        trainer.segmenter.train()
        return compose(titles, rows)

    def _identity(self) -> str:
        """Digest of all that a checkpoint must share with the run that resumes from it."""
        described = json.dumps([asdict(self.recipe), self.dataset.digest], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()

    def _save(self) -> None:
        if self.world.leads:
            state = {
                "identity": self._identity(),
                "step": self._step,
                "best_miou": self._best_miou,
                "metrics": self._metrics,
                "trainer": self.trainer.state_dict(),
            }
            save_checkpoint(self.directory / CHECKPOINTS, self._step, state)
        self.world.barrier()

    def resume(self) -> None:
        """Take up the newest whole checkpoint, if there is one.

        Raises CheckpointError if it belongs to other settings or other data.
        """
        found = newest_checkpoint(self.directory / CHECKPOINTS)
        if found is None:
            return
        path, state = found
        if state["identity"] != self._identity():
            raise CheckpointError(
                f"{path} belongs to other settings or data than this run's: "
                f"restore them, or train in another directory than {self.directory}"
            )
        self._step, self._best_miou, self._metrics = state["step"], state["best_miou"], state["metrics"]
        self.trainer.load_state_dict(state["trainer"])
        log.info("resumed from %s at step %d", path, self._step)


def _float32(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()
    }
