import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from advseg.platform.spec.presets import DEVIATIONS, apply_preset
from advseg.platform.spec.spec import Spec
from advseg.platform.spec.spec_file import SpecError, parse_spec
from advseg.trainers.methods.consistency import PRESETS
from advseg.trainers.optimizers import AdamSettings, SGDSettings


@pytest.fixture
def deeplab(document: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A training of the paper's network that leaves to a preset whatever can be left."""
    dataset = {**document["dataset"], "root": str(tmp_path)}
    trainer = {"steps": 20000, "augmentation": {"crop": [321, 321]}}
    return {
        "name": "probe",
        "dataset": dataset,
        "job": "train",
        "model": {"architecture": "deeplab_v2_resnet101"},
        "trainer": trainer,
    }


def parsed(document: dict[str, Any], preset: str) -> Spec:
    return parse_spec({**copy.deepcopy(document), "preset": preset}, source="test.yaml")


def at(spec: Spec, key: str) -> Any:
    value: Any = spec.model_dump(mode="json")
    for name in key.split("."):
        value = value[name]
    return value


@pytest.mark.parametrize("deviation", DEVIATIONS, ids=lambda deviation: deviation.key)
def test_each_deviation_is_a_field_of_the_spec_that_a_preset_sets(deviation, deeplab):
    assert at(parsed(deeplab, "paper"), deviation.key) == deviation.paper
    assert at(parsed(deeplab, "released-code"), deviation.key) == deviation.released
    assert deviation.reason


def test_presets_agree_on_what_paper_and_code_agree_on(deeplab):
    specs = [parsed(deeplab, preset) for preset in ("paper", "released-code")]

    for trainer, method in ((spec.trainer, spec.method) for spec in specs):
        assert (method.lambda_adv, method.lambda_semi_adv, method.lambda_semi) == (0.01, 0.001, 0.1)
        assert (method.threshold, method.semi_start, trainer.power, trainer.batch_size) == (0.2, 5000, 0.9, 10)


def test_what_the_spec_says_itself_stands(deeplab):
    deeplab["model"]["branches"] = 2
    deeplab["trainer"] |= {
        "head_lr_factor": 5,
        "segmenter_optimizer": {"lr": 1e-3},
    }
    deeplab["method"] = {"name": "adversarial", "discriminator_optimizer": {"name": "sgd", "lr": 1e-2}}

    spec = parsed(deeplab, "paper")

    assert at(spec, "model.branches") == 2
    assert spec.trainer.head_lr_factor == 5
    # The rest of an optimizer of the same kind is the preset's; one of another kind keeps defaults of its own.
    assert spec.trainer.segmenter_optimizer == SGDSettings(lr=1e-3, nesterov=True, weight_decay=1e-4)
    assert spec.method.discriminator_optimizer == SGDSettings(lr=1e-2)


@pytest.mark.parametrize("architecture", ["compact", "deeplab_v3plus_resnet50"])
def test_a_network_that_is_no_deeplab_v2_keeps_its_fields(deeplab, architecture):
    deeplab["model"] = {"architecture": architecture}

    spec = parsed(deeplab, "released-code")

    assert at(spec, "model.architecture") == architecture
    assert spec.method.discriminator_optimizer == AdamSettings(betas=(0.9, 0.99))


def test_another_method_than_the_papers_keeps_its_fields(deeplab):
    deeplab["method"] = {"name": "supervised"}

    spec = parsed(deeplab, "paper")

    assert at(spec, "method") == {"name": "supervised"}
    assert spec.trainer.segmenter_optimizer == SGDSettings(nesterov=True, weight_decay=1e-4)


def test_an_unknown_preset_is_told_with_those_there_are(deeplab):
    with pytest.raises(SpecError, match="preset: must be 'paper', 'released-code', 'fixmatch', 'mean-teacher' or"):
        parsed(deeplab, "papr")


@pytest.mark.parametrize("name", PRESETS)
def test_a_form_of_consistency_names_its_method_and_sets_all_of_it(name, deeplab):
    assert parsed(deeplab, name).method == PRESETS[name]


def test_what_the_spec_says_of_consistency_stands(deeplab):
    strong = {"grey_probability": 0.5, "jitter": {"hue": 0.0}}
    deeplab["method"] = {"name": "consistency", "ema_decay": 0.9, "strong": strong}

    method = parsed(deeplab, "mean-teacher").method

    expected = PRESETS["mean-teacher"]
    jitter = replace(expected.strong.jitter, hue=0.0)
    assert method == replace(
        expected, ema_decay=0.9, strong=replace(expected.strong, grey_probability=0.5, jitter=jitter)
    )


def test_a_form_of_consistency_does_not_go_with_the_adversarial_method(deeplab):
    deeplab["method"] = {"name": "adversarial"}

    told = r"preset: is fixmatch, which sets method consistency, but method\.name is adversarial: remove one"
    with pytest.raises(SpecError, match=told):
        parsed(deeplab, "fixmatch")


def test_the_baseline_of_a_form_of_consistency_is_a_spec(deeplab):
    spec = parsed(deeplab, "unimatch-v2")

    assert parse_spec(spec.supervised().model_dump(mode="json"), source="again") == spec.supervised()


def test_a_spec_that_was_read_says_all_that_its_preset_set_and_can_be_read_again(deeplab):
    spec = parsed(deeplab, "paper")

    assert parse_spec(spec.model_dump(mode="json"), source="again") == spec


@pytest.mark.parametrize("broken", [{"trainer": 3}, {"model": None}, {"trainer": {"segmenter_optimizer": 3}}, {}])
def test_what_is_wrong_in_a_document_is_left_to_the_validation(broken):
    document = {"preset": "paper", **copy.deepcopy(broken)}

    apply_preset(document)

    assert document["preset"] == "paper"
    assert document.get("model") == broken.get("model")
    assert (document["trainer"] == 3) == (broken.get("trainer") == 3)
