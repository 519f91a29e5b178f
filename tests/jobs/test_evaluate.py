"""`advseg evaluate`: a table, one JSON, one picture."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from advseg.jobs.evaluate import refuse_other_classes
from advseg.models import load
from advseg.models.bundle import save
from advseg.models.manifest import checksum_of
from advseg.models.resize import LongerSide, Resize
from advseg.platform.spec.spec_file import load_spec
from advseg.trainers.data import known_digests
from advseg.trainers.data.opening import open_dataset
from advseg.trainers.errors import UserError

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def results(advseg: Command, model: Path, spec: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Evaluate with some options and read the JSON."""

    def run(*options: str, judged: Path = model) -> dict[str, Any]:
        status, _, err = advseg("evaluate", judged, spec, "--to", tmp_path / "to", *options)
        assert (status, err) == (0, "")
        return json.loads((tmp_path / "to" / "results.json").read_text())

    return run


def by_hand(model: Path, spec: Path) -> np.ndarray:
    """The confusion matrix of a model's own predictions, by NumPy."""
    loaded, dataset = load(model), open_dataset(load_spec(spec).dataset)
    counts = np.zeros((len(dataset.classes),) * 2, int)
    for sample in dataset.validation:
        predicted = loaded.probabilities(sample.read_image()).argmax(0).numpy()
        truth = sample.read_mask()
        assert truth is not None
        known = truth != dataset.ignore_index
        np.add.at(counts, (truth[known], predicted[known]), 1)
    return counts


class TestResults:
    def test_are_those_of_the_models_own_predictions(
        self, results: Callable[..., dict[str, Any]], model: Path, spec: Path
    ) -> None:
        found = results()

        counts = by_hand(model, spec)
        union = counts.sum(0) + counts.sum(1) - counts.diagonal()
        iou = {
            name: 100 * counts[k, k] / union[k] if union[k] else None for k, name in enumerate(load(model).card.classes)
        }
        assert found["confusion"]["matrix"] == counts.tolist()
        assert found["iou"] == pytest.approx(iou)
        assert found["miou"] == pytest.approx(np.mean([value for value in iou.values() if value is not None]))
        assert found["pixel_accuracy"] == pytest.approx(100 * counts.trace() / counts.sum())
        assert found["miou_multiscale"] is None

    def test_say_how_and_of_what(self, results: Callable[..., dict[str, Any]], model: Path, spec: Path) -> None:
        found = results()

        card = load(model).card
        assert found["unit"] == "percent"
        assert "absent from truth and prediction" in found["note"]
        assert found["images"] == 2
        assert found["confusion"]["classes"] == list(card.classes)
        assert found["protocol"] == {
            "mode": "whole",
            "window": None,
            "stride": None,
            "resize": None,
            "scales": [],
            "flip": False,
        }
        assert found["dataset"].keys() == {"digest", "ignore_index"}
        assert found["model"]["lineage"] == {
            "spec": "tiny",
            "environment": card.lineage["environment"],
            "step": 4,
            "dataset_digest": card.lineage["dataset_digest"],
            "images": {"labelled": 3, "unlabelled": 3, "validation": 2},
        }

    def test_name_the_dataset_where_this_machine_has_read_all_of_it(
        self, results: Callable[..., dict[str, Any]], spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(known_digests, "_folder", lambda: tmp_path / "digests")
        monkeypatch.setattr(known_digests, "_TICK_NS", 0)
        assert results()["dataset"]["digest"] is None
        digest = open_dataset(load_spec(spec).dataset).digest
        assert results()["dataset"]["digest"] == digest

    def test_need_the_validation_images_alone(
        self, advseg: Command, model: Path, document: dict[str, Any], shapes: Path, tmp_path: Path
    ) -> None:
        root = Path(shutil.copytree(shapes, tmp_path / "shapes"))
        lists = root / "ImageSets" / "Segmentation"
        for id in (lists / "labelled.txt").read_text().split():
            (root / "JPEGImages" / f"{id}.jpg").unlink()
        (lists / "unlabelled.txt").unlink()
        (tmp_path / "spec.yaml").write_text(
            yaml.safe_dump({**document, "dataset": {**document["dataset"], "root": str(root)}})
        )

        status, out, err = advseg("evaluate", model, "spec.yaml", "--to", "to")

        assert (status, err) == (0, "")
        assert "2 images" in out

    def test_equal_those_at_the_end_of_training(self, results: Callable[..., dict[str, Any]], model: Path) -> None:
        assert results()["miou"] == pytest.approx(load(model).card.metrics["val/miou"])

    def test_follow_the_protocol_of_the_spec(self, results: Callable[..., dict[str, Any]]) -> None:
        plain = results()

        found = results(
            "--set=trainer.evaluation={mode: sliding, window: [8, 12], stride: 0.5, scales: [0.5, 1.5], flip: true}"
        )

        assert found["protocol"] == {
            "mode": "sliding",
            "window": [8, 12],
            "stride": 0.5,
            "resize": None,
            "scales": [0.5, 1.5],
            "flip": True,
        }
        assert found["confusion"]["matrix"] != plain["confusion"]["matrix"]
        assert 0 < found["miou_multiscale"] < 100

    @pytest.mark.parametrize(
        ("resize", "told"), [((8, 24), [8, 24]), (LongerSide(longer=12), {"longer": 12, "multiple": 1})]
    )
    def test_are_of_the_size_at_which_the_model_reads(
        self,
        results: Callable[..., dict[str, Any]],
        model: Path,
        spec: Path,
        tmp_path: Path,
        resize: Resize,
        told: Any,
    ) -> None:
        resized = tmp_path / "resized"
        card = replace(load(model).card, resize=resize)
        weights = [load_file(model / f"{network}.safetensors") for network in ("segmenter", "discriminator")]
        save(resized, card, *weights)

        found = results(judged=resized)

        assert found["protocol"]["resize"] == told
        assert found["confusion"]["matrix"] == by_hand(resized, spec).tolist() != by_hand(model, spec).tolist()

    def test_have_no_iou_for_a_class_that_nobody_saw(
        self, results: Callable[..., dict[str, Any]], model: Path, tmp_path: Path
    ) -> None:
        only_background = tmp_path / "constant"
        segmenter = {name: torch.zeros_like(w) for name, w in load_file(model / "segmenter.safetensors").items()}
        segmenter["branches.0.bias"][0] = 1
        save(only_background, replace(load(model).card, discriminator=None), segmenter, None)

        found = results(judged=only_background)

        seen = np.array(found["confusion"]["matrix"]).sum(1) > 0
        assert [value is not None for value in found["iou"].values()] == seen.tolist()
        assert not seen.all()


class TestCommand:
    def test_prints_each_class_and_the_headline(self, advseg: Command, model: Path, spec: Path, tmp_path: Path) -> None:
        status, out, err = advseg("evaluate", model, spec)

        assert (status, err) == (0, "")
        folder = tmp_path / "home" / "evaluations" / "tiny" / f"model-{str(checksum_of(model))[:12]}"
        found = json.loads((folder / "results.json").read_text())
        lines = out.splitlines()
        for name, iou in found["iou"].items():
            (row,) = [line for line in lines if line.startswith(f"{name} ")]
            assert f" {iou:.2f} " in row if iou is not None else " - " in row
        counted = sum(iou is not None for iou in found["iou"].values())
        assert lines[-1] == (
            f"mIoU {found['miou']:.2f} over {counted} of 6 classes and 2 images, whole; "
            f"results.json and confusion.png in {folder}"
        )

    def test_leaves_the_results_of_other_models_whatever_their_folders_are_called(
        self, advseg: Command, model: Path, spec: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other" / model.name
        card = replace(load(model).card, discriminator=None)
        save(other, card, load_file(model / "segmenter.safetensors"), None)

        for judged in (model, other, model):
            assert advseg("evaluate", judged, spec)[0] == 0

        assert len(list((tmp_path / "home" / "evaluations" / "tiny").glob("model-*/results.json"))) == 2

    def test_draws_the_confusion_matrix(self, results: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
        results()

        with Image.open(tmp_path / "to" / "confusion.png") as picture:
            assert picture.format == "PNG"

    def test_needs_no_discriminator(self, results: Callable[..., dict[str, Any]], model: Path, tmp_path: Path) -> None:
        supervised = tmp_path / "supervised"
        card = replace(load(model).card, discriminator=None)
        save(supervised, card, load_file(model / "segmenter.safetensors"), None)

        assert results(judged=supervised)["miou"] == results()["miou"]


class TestMistakes:
    def mistake(self, result: tuple[int, str, str]) -> str:
        status, _, err = result
        assert status == 2
        assert len(err.splitlines()) == 1
        return err.removeprefix("error: ").removesuffix("\n")

    @pytest.fixture
    def others(self, document: dict[str, Any], shapes: Path, tmp_path: Path) -> Callable[[list[str]], Path]:
        """A spec of the same images with other class names."""

        def write(classes: list[str]) -> Path:
            path = tmp_path / "other.yaml"
            path.write_text(yaml.safe_dump({**document, "dataset": {**document["dataset"], "classes": classes}}))
            return path

        return write

    def test_other_classes_are_refused(
        self, advseg: Command, model: Path, others: Callable[[list[str]], Path], tmp_path: Path
    ) -> None:
        other = others(["background", "circle", "cube", "triangle", "ring", "flower"])

        said = self.mistake(advseg("evaluate", model, other, "--to", "to"))

        assert said.startswith("class 2 is square in the model, but cube in the dataset: ")
        assert not (tmp_path / "to").exists()

    def test_what_is_no_model_is_refused(self, advseg: Command, spec: Path) -> None:
        assert self.mistake(advseg("evaluate", "nowhere", spec)).startswith("model nowhere does not exist: ")

    def test_a_damaged_model_is_refused(self, advseg: Command, spec: Path, model: Path, tmp_path: Path) -> None:
        shutil.copytree(model, tmp_path / "model")
        with (tmp_path / "model" / "segmenter.safetensors").open("ab") as file:
            file.write(b"more")

        assert "pull or train the model again" in self.mistake(advseg("evaluate", "model", spec))

    def test_a_protocol_out_of_range_is_refused(self, advseg: Command, model: Path, spec: Path) -> None:
        status, _, err = advseg("evaluate", model, spec, "--set=trainer.evaluation.stride=2")
        assert status == 2
        assert "trainer.evaluation.stride: must be in [0.05, 1], but is 2" in err

    def test_a_file_is_no_folder_for_results(self, advseg: Command, model: Path, spec: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")

        assert (
            self.mistake(advseg("evaluate", model, spec, "--to", "file"))
            == "file: File exists: remove it, or name another"
        )
        assert (tmp_path / "file").read_text() == "mine"


def test_models_and_datasets_must_have_the_same_classes_in_the_same_order() -> None:
    refuse_other_classes(("a", "b"), ("a", "b"))

    with pytest.raises(UserError, match="the model has 2 classes, but the dataset has 3"):
        refuse_other_classes(("a", "b"), ("a", "b", "c"))
    with pytest.raises(UserError, match="class 0 is a in the model, but b in the dataset"):
        refuse_other_classes(("a", "b"), ("b", "a"))


@pytest.mark.parametrize("name", ["results.json", "confusion.png"])
def test_nothing_is_written_through_a_link(advseg: Command, model: Path, spec: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / name).symlink_to("../mine")
    status, _, err = advseg("evaluate", model, spec, "--to", tmp_path / "to")
    assert (status, err.count("\n")) == (2, 1)
    assert f"{name} is there and no regular file" in err
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_models_words_stay_on_the_line_that_refuses_them() -> None:
    with pytest.raises(UserError) as caught:
        refuse_other_classes(("\x1b[31ma\r\nb" + "c" * 500,), ("a",))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
