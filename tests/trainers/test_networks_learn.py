"""Every network that is not the paper's learns, resumes, is judged, and is the same as a model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from advseg.models.architectures import (
    DeepLabV3PlusSettings,
    Dinov2Settings,
    SegmenterSettings,
    TransformersSettings,
)
from advseg.models.bundle import load
from advseg.trainers.data.augment import AugmentationSettings
from advseg.trainers.errors import UserError
from advseg.trainers.loop import Training
from advseg.trainers.optimizers import SGDSettings
from advseg.trainers.reporter import Reporters
from advseg.trainers.speed import SpeedSettings

V3PLUS = DeepLabV3PlusSettings(architecture="deeplab_v3plus_resnet50")
NETWORKS: dict[str, tuple[SegmenterSettings, int]] = {
    "v3+ at 16": (V3PLUS, 24),
    "v3+ at 8, frozen": (replace(V3PLUS, output_stride=8, batch_norm="frozen"), 24),
    "segformer": (TransformersSettings(pretrained="segformer"), 32),
    "dinov2": (Dinov2Settings(pretrained="dinov2"), 28),
    "dinov2, frozen": (Dinov2Settings(pretrained="dinov2", freeze=True), 28),
}
"""Networks, and the sides of crops for them."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Tiny networks as transformers keeps them."""
    root = tmp_path_factory.mktemp("pretrained")
    vit = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "hidden_dropout_prob": 0.5}
    stages = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 8, 8], "num_attention_heads": [1, 1, 1, 1]}
    transformers.utils.logging.disable_progress_bar()
    transformers.Dinov2Model(transformers.Dinov2Config(image_size=28, **vit)).save_pretrained(root / "dinov2")
    segformer = transformers.SegformerConfig(decoder_hidden_size=8, **stages)
    transformers.SegformerForSemanticSegmentation(segformer).save_pretrained(root / "segformer")
    transformers.utils.logging.enable_progress_bar()
    return {path.name: path for path in root.iterdir()}


def recipe_with(program, folders: dict[str, Path], network: str, method: str = "adversarial", **settings):
    segmenter, side = NETWORKS[network]
    if isinstance(segmenter, TransformersSettings | Dinov2Settings):
        segmenter = replace(segmenter, pretrained=str(folders[segmenter.pretrained]))
    settings = {
        "steps": 4,
        "evaluate_every": 2,
        **({"semi_start": 2} if method == "adversarial" else {}),
        "segmenter_optimizer": SGDSettings(lr=1e-3),
        "collapse_patience": None,
        "augmentation": AugmentationSettings(crop=(side, side)),
        **settings,
    }
    return replace(program.recipe_of(method, **settings), segmenter=segmenter)


@pytest.mark.parametrize("network", NETWORKS)
def test_it_ends_in_the_same_bits_when_it_was_stopped_and_is_the_same_as_a_model(
    network, program, folders, shapes, tmp_path
):
    recipe = recipe_with(program, folders, network)

    def trained(name: str, stops_at: int | None = None) -> Training:
        with program.small_deeplab():
            training = Training(recipe, shapes, tmp_path / name)
        if stops_at is None:
            training.run(Reporters())
        else:
            reports = training.reports()
            while next(reports).step < stops_at:
                pass
            reports.close()
        return training

    whole = trained("whole")
    trained("stopped", stops_at=4)
    stopped = trained("stopped")
    with program.small_deeplab():
        stopped.export(tmp_path / "model", {})
        model = load(tmp_path / "model")

    segmenter = whole.method.segmenter
    torch.testing.assert_close(stopped.method.segmenter.state_dict(), segmenter.state_dict(), rtol=0, atol=0)
    pixels = shapes.validation[0].read_image()
    with torch.inference_mode():
        logits = segmenter.eval()(model.card.normalisation(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]))
    torch.testing.assert_close(model.probabilities(pixels), logits.softmax(1)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", ["segformer", "dinov2"])
def test_views_whose_features_are_dropped_teach_it(network, program, folders, shapes, tmp_path):
    recipe = recipe_with(program, folders, network, "consistency", views=2, feature_dropout=True)
    training = Training(recipe, shapes, tmp_path)
    before = {name: tensor.clone() for name, tensor in training.method.segmenter.state_dict().items()}

    training.run(Reporters())

    after = training.method.segmenter.state_dict()
    assert all(tensor.isfinite().all() for tensor in after.values())
    assert any(not torch.equal(after[name], before[name]) for name in after if training.method.segmenter.in_head(name))


def test_recomputed_layers_of_a_transformer_learn_the_same(program, folders, shapes, tmp_path):
    ends = []
    for recompute in (False, True):
        recipe = recipe_with(program, folders, "dinov2", speed=SpeedSettings(recompute=recompute))
        training = Training(recipe, shapes, tmp_path / str(recompute))
        training.run(Reporters())
        ends.append(training.method.segmenter.state_dict())
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("network", "side", "fitting"), [("segformer", 33, "64 x 64"), ("dinov2", 24, "28 x 28")], ids=str
)
def test_a_crop_that_is_no_multiple_is_refused_with_one_that_is(
    network, side, fitting, program, folders, shapes, tmp_path
):
    recipe = recipe_with(program, folders, network, augmentation=AugmentationSettings(crop=(side, side)))

    with pytest.raises(UserError, match=rf"crop is {side} x {side}, but sides must be multiples .*: take {fitting}$"):
        Training(recipe, shapes, tmp_path)


def test_a_network_that_is_not_there_is_one_line(program, folders, shapes, tmp_path):
    recipe = recipe_with(program, folders, "dinov2")
    recipe = replace(recipe, segmenter=Dinov2Settings(pretrained=str(tmp_path / "gone")))

    with pytest.raises(UserError, match="and there is no such folder"):
        Training(recipe, shapes, tmp_path)
