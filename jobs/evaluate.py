"""A model's figures on the validation images of a dataset: a table, one JSON of results, a confusion matrix picture.

The spec says where the dataset lies and, in `trainer.evaluation`, how images are read; model and normalisation are the
folder's own.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from ..models.card import Card
from ..models.inference import EvaluationSettings
from ..models.model import Model
from ..platform.base.visible import visible_line
from ..platform.pages.console import VisibleConsole, words
from ..platform.spec.spec import Spec
from ..platform.storage.packs import open_dataset
from ..trainers.data.dataset import Dataset
from ..trainers.described import device_name, network
from ..trainers.devices import usual_device
from ..trainers.distributed import World
from ..trainers.errors import UserError, brief
from ..trainers.evaluate import Evaluation, evaluate
from ..trainers.metrics import class_accuracy, class_iou
from ..trainers.pictures.confusion import draw_confusion
from ..trainers.whole_file import write_whole
from .outputs import refuse_other_than_file, write_picture
from .predict import load_model

log = logging.getLogger(__name__)

RESULTS, PICTURE = "results.json", "confusion.png"
NOTE = "null: absent from truth and prediction, or the ignore index; such a class does not count in a mean"


def evaluate_model(model_path: Path, spec: Spec, folder: Path) -> dict[str, Any]:
    """Judge a model, write its results and picture to a folder and return the results.

    Raises UserError for what is no model, a broken dataset, a dataset of other classes than the model's, and for
    what is no file where a file is to be written.
    """
    for name in (RESULTS, PICTURE):
        refuse_other_than_file(folder / name)
    model = load_model(model_path, usual_device())
    dataset = open_dataset(spec.dataset, only="validation")
    refuse_other_classes(model.card.classes, dataset.classes)
    folder.mkdir(parents=True, exist_ok=True)
    evaluation = judge(model, dataset, spec)
    results = results_of(evaluation, model.card, dataset, spec.trainer.evaluation)
    write_whole(folder / RESULTS, json.dumps(results, indent=1))
    write_picture(folder / PICTURE, draw_confusion(evaluation.matrix.numpy(), dataset.classes))
    return results


def judge(model: Model, dataset: Dataset, spec: Spec) -> Evaluation:
    """What a model makes, on its device, of the validation images of a dataset, read as a spec says."""
    speed = spec.trainer.speed
    what = network(model.segmenter, model.card.segmenter.architecture)
    log.info("%s on %s; validation images: %d", what, device_name(model.device), len(dataset.validation))
    return evaluate(
        speed.arrange(model.segmenter),
        dataset,
        model.card.normalisation,
        settings=replace(spec.trainer.evaluation, images=None),
        resize=model.card.resize,
        world=World(),
        device=model.device,
        dtype=torch.float32,
        speed=speed,
    )


def refuse_other_classes(models: Sequence[str], datasets: Sequence[str]) -> None:
    """Raise UserError unless a model and a dataset have the same classes in the same order."""
    remedy = "evaluate it on a dataset of its own classes, in its own order"
    if len(models) != len(datasets):
        raise UserError(f"the model has {len(models)} classes, but the dataset has {len(datasets)}: {remedy}")
    for id, (ours, theirs) in enumerate(zip(models, datasets, strict=True)):
        if ours != theirs:
            named = f"class {id} is {_word(ours)} in the model, but {_word(theirs)} in the dataset"
            raise UserError(f"{named}: {remedy}")


def _word(name: str) -> str:
    """A class's name, of which nobody vouches for what is in it."""
    return visible_line(brief(name))


def results_of(evaluation: Evaluation, card: Card, dataset: Dataset, settings: EvaluationSettings) -> dict[str, Any]:
    """All figures, how they came about, and of what, as JSON can hold them."""
    metrics, matrix, classes = evaluation.metrics, evaluation.matrix, dataset.classes
    slides = settings.mode == "sliding"
    lineage = {**card.lineage, "spec": card.lineage.get("spec", {}).get("name")}
    return {
        "unit": "percent",
        "note": NOTE,
        "miou": metrics["val/miou"],
        "miou_multiscale": metrics.get("val/miou_multiscale"),
        "pixel_accuracy": metrics["val/pixel_accuracy"],
        "mean_class_accuracy": metrics["val/class_accuracy"],
        "iou": dict(zip(classes, class_iou(matrix, dataset.ignore_index), strict=True)),
        "class_accuracy": dict(zip(classes, class_accuracy(matrix), strict=True)),
        "images": evaluation.images,
        "protocol": {
            "mode": settings.mode,
            "window": settings.window if slides else None,
            "stride": settings.stride if slides else None,
            "resize": asdict(card)["resize"],
            "scales": settings.scales,
            "flip": settings.flip,
        },
        "dataset": {"digest": dataset.digest or None, "ignore_index": dataset.ignore_index},
        "model": {"segmenter": asdict(card.segmenter), "lineage": lineage},
        "confusion": {"unit": "pixels", "rows": "truth", "columns": "prediction", "classes": classes}
        | {"matrix": matrix.tolist()},
    }


def results_table(results: dict[str, Any]) -> Table:
    """The figures of each class."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("class")
    for heading in ("IoU", "accuracy", "of truth"):
        table.add_column(heading, justify="right")
    true = [sum(row) for row in results["confusion"]["matrix"]]
    for name, pixels in zip(results["iou"], true, strict=True):
        share = 100 * pixels / max(sum(true), 1)
        figures = (results["iou"][name], results["class_accuracy"][name], share)
        table.add_row(words(name), *(_percent(figure) for figure in figures))
    return table


def headline(results: dict[str, Any]) -> str:
    """The one figure, and what it was taken over."""
    counted = [iou for iou in results["iou"].values() if iou is not None]
    line = (
        f"mIoU {results['miou']:.2f} over {len(counted)} of {len(results['iou'])} classes and "
        f"{results['images']} images, {results['protocol']['mode']}"
    )
    if results["miou_multiscale"] is not None:
        line += f" ({results['miou_multiscale']:.2f} averaged over scales and directions)"
    return line


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def print_results(results: dict[str, Any], folder: Path) -> None:
    """The figures of each class, the headline, and where the results lie."""
    VisibleConsole().print(results_table(results))
    print(f"{headline(results)}; {RESULTS} and {PICTURE} in {folder}")
