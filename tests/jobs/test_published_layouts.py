"""The commands that a user of PASCAL VOC or Cityscapes types, on small trees of their shape."""

import json
from pathlib import Path

import pytest
import torch

from advseg.jobs.paper_tables import PAPER
from advseg.models import load
from advseg.models.architectures import DeepLabSettings, build_segmenter

# A few steps of a smaller network: the data, the protocol and the method are the specs'.
SMALL = [
    "model.architecture=deeplab_v2_resnet50",
    "trainer.steps=2",
    "trainer.evaluate_every=1",
    "trainer.batch_size=2",
]
SMALL += ["method.semi_start=1", "method.semi_adv_start=1"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Start weights as the released checkpoints hold them: of 21 classes."""
    path = tmp_path_factory.mktemp("weights") / "released.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(build_segmenter(DeepLabSettings(architecture="deeplab_v2_resnet50"), 21).state_dict(), path)
    return path


def options(*overrides: str) -> list[str]:
    return [f"--set={override}" for override in overrides]


@pytest.mark.parametrize(
    ("spec", "parts"),
    [("voc_1_8", (1, 7)), ("voc_only", (4, 4))],
    ids=["a fraction of one list", "two lists that overlap"],
)
def test_pascal_voc(advseg, voc_tree, weights, tmp_path, spec, parts):
    root, run = voc_tree, tmp_path / "run"
    chosen = options(*SMALL, f"dataset.root={root}", f"model.weights={weights}", "trainer.augmentation.crop=[33, 41]")
    path = PAPER / f"{spec}.yaml"

    checked = advseg("data", "check", path, *chosen)
    trained = advseg("train", path, *chosen, f"--to={run}")
    evaluated = advseg("evaluate", run / "model", path, *chosen, f"--to={tmp_path / 'evaluation'}")

    assert (checked[0], trained[0], evaluated[0]) == (0, 0, 0), (checked, trained, evaluated)
    counts = [line.replace("│", " ").split() for line in checked[1].splitlines()]
    assert ["images", *map(str, parts), "3"] in counts, checked[1]
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert results["images"] == 3
    assert len(results["iou"]) == 21
    assert results["miou"] == pytest.approx(load(run / "model").card.metrics["val/miou"])
    metrics = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["metrics"]
    assert {"loss/ce", "loss/adv", "loss/semi", "loss/semi_adv", "loss/d"} <= set(metrics)


def test_cityscapes(advseg, cityscapes_tree, weights, tmp_path):
    root, run, path = cityscapes_tree, tmp_path / "run", PAPER / "cityscapes_1_2.yaml"
    chosen = options(*SMALL, f"dataset.root={root}", f"model.weights={weights}")
    chosen += options("trainer.resize=[40, 80]", "trainer.augmentation.crop=[40, 80]")
    sliding = options("trainer.evaluation.mode=sliding", "trainer.evaluation.window=[33, 33]")

    checked = advseg("data", "check", path, *chosen)
    trained = advseg("train", path, *chosen, f"--to={run}")
    evaluated = advseg("evaluate", run / "model", path, *chosen, *sliding, f"--to={tmp_path / 'evaluation'}")

    assert (checked[0], trained[0], evaluated[0]) == (0, 0, 0), (checked, trained, evaluated)
    model = load(run / "model")
    assert model.card.resize == (40, 80)
    assert model.card.classes[:3] == ("road", "sidewalk", "building")
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    assert results["images"] == 2
    assert results["protocol"]["mode"] == "sliding"
    assert len(results["iou"]) == 19


def test_weights_of_another_network_are_refused_before_training(advseg, voc_tree, weights, tmp_path):
    chosen = options(
        *SMALL, f"dataset.root={voc_tree}", f"model.weights={weights}", "trainer.augmentation.crop=[33, 41]"
    )

    status, _, err = advseg(
        "train",
        PAPER / "voc_1_8.yaml",
        *chosen,
        "--set=model.architecture=deeplab_v2_resnet101",
        f"--to={tmp_path}/run",
    )

    assert status == 2
    assert err.startswith("error: ")
    assert "layer3" in err
    assert err.count("\n") == 1
