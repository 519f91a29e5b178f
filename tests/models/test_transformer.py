"""Networks of transformers as ours: the same logits, weights from a folder, models that need neither folder nor Hub."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

from advseg.models.architectures import (
    IMAGENET,
    Dinov2Settings,
    Normalisation,
    TransformersSettings,
    build_segmenter,
    config_of,
    normalisation_of,
)
from advseg.models.bundle import load, save
from advseg.models.card import Card
from advseg.models.pretrained import PretrainedError, checked_config
from advseg.models.weights import WeightsError, load_weights

CLASSES = ("a", "b", "c", "d")
STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
DROPPED = {"hidden_dropout_prob": 0.5, "drop_path_rate": 0.5}
CONFIGS = {
    "segformer": lambda: transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 16, 16],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        classifier_dropout_prob=0.5,
        **DROPPED,
    ),
    "upernet": lambda: transformers.UperNetConfig(
        backbone_config=transformers.SwinConfig(
            embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, **STAGES
        ),
        hidden_size=16,
    ),
    "dpt": lambda: transformers.DPTConfig(
        image_size=64,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        is_hybrid=False,
        **VIT,
    ),
    "beit": lambda: transformers.BeitConfig(
        image_size=64, patch_size=16, out_indices=[0, 1, 2, 3], vocab_size=8, pool_scales=[1, 2], **VIT
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A tiny network of each kind, with fresh weights, as transformers keeps it."""
    root = tmp_path_factory.mktemp("pretrained")
    transformers.utils.logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for kind, config in CONFIGS.items():
            made = config()
            made.num_labels = len(CLASSES)
            transformers.AutoModelForSemanticSegmentation.from_config(made).save_pretrained(root / kind)
        dinov2 = transformers.Dinov2Config(image_size=56, **{**VIT, "intermediate_size": None} | DROPPED)
        transformers.Dinov2Model(dinov2).save_pretrained(root / "dinov2")
    transformers.utils.logging.enable_progress_bar()
    return {path.name: path for path in root.iterdir()}


def settings_of(kind: str, folders: dict[str, Path], **others):
    return (Dinov2Settings if kind == "dinov2" else TransformersSettings)(pretrained=str(folders[kind]), **others)


def images(*size: int) -> torch.Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("size", [(64, 64), (60, 50)])
def test_it_computes_what_transformers_does(kind, size, folders):
    settings = settings_of(kind, folders)
    network = build_segmenter(settings, len(CLASSES)).eval()
    said = load_weights(network, settings, folders[kind])
    theirs = transformers.AutoModelForSemanticSegmentation.from_pretrained(folders[kind]).eval()
    enlarged = [-(-side // network.multiple) * network.multiple for side in size]
    read = F.interpolate(images(*size), enlarged, mode="bilinear")

    with torch.inference_mode():
        logits = network(images(*size))
        # Its UperNet upsamples them itself, to the enlarged size.
        coarse = theirs.decode_head(theirs.backbone(read).feature_maps) if kind == "upernet" else theirs(read).logits

    assert "fresh" not in said
    expected = F.interpolate(coarse, size, mode="bilinear")
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_dpt_reads_images_that_are_not_square(folders):
    network = build_segmenter(settings_of("dpt", folders), 4).eval()
    tall, wide = images(48, 96), images(96, 48)

    assert (network(tall).shape, network(wide).shape) == ((2, 4, 48, 96), (2, 4, 96, 48))


@pytest.mark.parametrize("kind", [*CONFIGS, "dinov2"])
def test_other_classes_have_a_fresh_head_on_the_body_of_the_folder(kind, folders):
    settings = settings_of(kind, folders)
    network = build_segmenter(settings, 7)
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    said = load_weights(network, settings, folders[kind])

    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, fresh[name])}
    assert "kept fresh" in said
    assert changed and not any(map(network.in_head, changed))
    head, body = network.groups()["head"], network.groups()["body"]
    assert head and body


@pytest.mark.parametrize("kind", [*CONFIGS, "dinov2"])
def test_a_model_is_the_same_when_it_is_loaded_though_the_folder_is_gone(kind, folders, tmp_path, monkeypatch):
    folder = shutil.copytree(folders[kind], tmp_path / "here")
    settings = replace(settings_of(kind, folders), pretrained=str(folder))
    network = build_segmenter(settings, len(CLASSES)).eval()
    card = Card(
        segmenter=settings,
        config=config_of(settings),
        discriminator=None,
        classes=CLASSES,
        palette=((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3)),
        ignore_index=255,
        normalisation=normalisation_of(settings),
    )
    save(tmp_path / "model", card, network.state_dict(), None)
    shutil.rmtree(folder)
    before = torch.get_rng_state()

    model = load(tmp_path / "model")

    assert torch.equal(torch.get_rng_state(), before)
    assert model.card == card
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    with torch.inference_mode():
        expected = network(card.normalisation(torch.from_numpy(image).permute(2, 0, 1)[None])).softmax(1)[0]
    torch.testing.assert_close(model.probabilities(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["segformer", "dinov2"])
def test_nothing_is_dropped_out_in_training(kind, folders):
    network = build_segmenter(settings_of(kind, folders), 4).train()

    assert network.training
    torch.testing.assert_close(network(images(56, 56)), network(images(56, 56)), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["upernet", "dinov2"])
def test_a_frozen_body_neither_learns_nor_gathers_statistics(kind, folders):
    network = build_segmenter(settings_of(kind, folders, freeze=True), 4).train()
    network(images(56, 56)).sum().backward()

    groups = network.groups()

    assert groups["body"] == [] and groups["head"]
    assert all(p.grad is None for name, p in network.named_parameters() if not network.in_head(name))
    assert not any(
        module.training for name, module in network.named_modules() if name and not network.in_head(f"{name}.")
    )


def test_batch_norm_of_a_head_mixes_images_unless_it_is_frozen(folders):
    mixing, frozen = (build_segmenter(settings_of("segformer", folders, batch_norm=n), 4) for n in ("batch", "frozen"))

    assert mixing.mixes_images and not frozen.mixes_images
    batch = images(64, 64)
    together = frozen.train()(batch)
    torch.testing.assert_close(together, torch.cat([frozen(image[None]) for image in batch]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(mixing.train()(batch)[:1], mixing(batch[[0, 0]])[:1])


def test_the_head_of_dinov2_fuses_four_layers_as_dpt_does(folders):
    network = build_segmenter(settings_of("dinov2", folders), 4).double().eval()
    state = {name.removeprefix("dpt."): tensor for name, tensor in network.state_dict().items()}
    picture = images(28, 42).double()
    body = transformers.AutoBackbone.from_config(network.body.config).double().eval()
    body.load_state_dict(network.body.state_dict())

    def conv(x, name, **options):
        return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **options)

    def residual(x, name):
        return x + conv(conv(x.relu(), f"{name}.conv1", padding=1).relu(), f"{name}.conv2", padding=1)

    def grown(x, size):
        return F.interpolate(x, size, mode="bilinear", align_corners=True)

    with torch.inference_mode():
        layers = [conv(layer, f"project.{n}") for n, layer in enumerate(body(picture).feature_maps)]
        for n, stride in ((0, 4), (1, 2)):
            weights = state[f"resize.{n}.weight"], state[f"resize.{n}.bias"]
            layers[n] = F.conv_transpose2d(layers[n], *weights, stride=stride)
        layers[3] = conv(layers[3], "resize.3", stride=2, padding=1)
        layers = [conv(layer, f"even.{n}", padding=1) for n, layer in enumerate(layers)]
        x = conv(residual(layers[3], "fuse.3.refine"), "fuse.3.out")
        for n in (2, 1, 0):
            x = grown(x, layers[n].shape[-2:]) + residual(layers[n], f"fuse.{n}.finer")
            x = conv(residual(x, f"fuse.{n}.refine"), f"fuse.{n}.out")
        x = grown(x, (x.shape[-2] * 2, x.shape[-1] * 2))
        x = conv(conv(x, "classify.0", padding=1).relu(), "classify.2")
        expected = grown(x, (28, 42))
        logits = network(picture)

    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


def test_images_are_read_as_its_folder_says_and_else_as_imagenets(folders, tmp_path):
    folder = shutil.copytree(folders["beit"], tmp_path / "beit")
    settings = TransformersSettings(pretrained=str(folder))
    assert normalisation_of(settings) == IMAGENET

    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.2] * 3}))
    assert normalisation_of(settings) == Normalisation(mean=(127.5,) * 3, std=(51.0,) * 3)

    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [0.2]}))
    with pytest.raises(PretrainedError, match="does not say how images are read"):
        normalisation_of(settings)


def test_a_hub_that_is_not_reached_is_one_line(monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        PretrainedError, match="not fetched to this machine before, and the Hugging Face Hub is not"
    ) as it:
        build_segmenter(TransformersSettings(pretrained="someone/else"), 4)
    assert "\n" not in str(it.value)


def test_what_the_hub_does_not_give_is_one_line(monkeypatch):
    import huggingface_hub

    def snapshot_download(*_: object, **__: object) -> str:
        raise OSError("404 Client Error\nRepository Not Found")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(PretrainedError, match="is someone/nothing, which the Hugging Face Hub does not give") as it:
        build_segmenter(TransformersSettings(pretrained="someone/nothing"), 4)
    assert "\n" not in str(it.value)


def test_pickled_weights_and_code_of_a_folder_are_left_alone(folders, tmp_path):
    folder = shutil.copytree(folders["segformer"], tmp_path / "pickled")
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForSemanticSegmentation": "evil.Evil", "AutoConfig": "evil.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('code of a folder was run')")
    settings = TransformersSettings(pretrained=str(folder))

    network = build_segmenter(settings, 4)

    with pytest.raises(WeightsError, match="holds no safetensors, and weights of other kinds are not read"):
        load_weights(network, settings, folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "must be an object with a model_type, but is None"),
        ({"model_type": 3}, "must be an object with a model_type"),
        ({"model_type": "upernet", "backbone": "someone/else"}, "backbone would fetch a part of it from elsewhere"),
        ({"model_type": "dpt", "backbone_config": {"use_timm_backbone": True}}, "use_timm_backbone would fetch a part"),
        ({"model_type": "dpt", "num_hidden_layers": 10**6}, "'num_hidden_layers' must be at most 256, but is 1000000"),
        ({"model_type": "segformer", "depths": [2, 10**6]}, "'depths' must be at most 256"),
        ({"model_type": "segformer", "hidden_sizes": [10**9]}, "'hidden_sizes' must be at most 131072"),
        ({"model_type": "dpt", "neck_hidden_sizes": [1] * 10_000}, "at most 20000 characters"),
    ],
)
def test_a_configuration_that_nobody_vouches_for_is_refused_in_one_line(config, message):
    with pytest.raises(ValueError, match=message):
        checked_config(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "nothing"}, "this version of transformers has no model_type 'nothing'"),
        ({"model_type": "vit"}, "its model_type vit segments nothing: take one of beit, "),
        ({"model_type": "segformer", "depths": "deep"}, "is refused by transformers"),
        ({"model_type": "segformer", "hidden_sizes": [-8, 8, 8, 8]}, "transformers makes no network of its conf"),
        ({"model_type": "dpt", "is_hybrid": True}, "hybrid DPT"),
    ],
)
def test_a_configuration_that_makes_no_network_is_told_in_one_line(config, message):
    with pytest.raises(PretrainedError, match=message) as caught:
        build_segmenter(TransformersSettings(pretrained="unread"), 4, config)
    assert "\n" not in str(caught.value)


def test_dinov2_is_of_its_own_kind(folders):
    with pytest.raises(PretrainedError, match="its model_type is 'segformer', but must be dinov2 or dinov2_with_reg"):
        build_segmenter(Dinov2Settings(pretrained=str(folders["segformer"])), 4)
