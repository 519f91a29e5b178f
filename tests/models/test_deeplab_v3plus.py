"""DeepLab-v3+ beside a plain implementation of the paper, written from its text and from torchvision's ResNet."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from advseg.models.architectures import (
    CAFFE_MEANS,
    IMAGENET,
    RESNET_BLOCKS,
    DeepLabSettings,
    DeepLabV3PlusSettings,
    build_segmenter,
    normalisation_of,
)
from advseg.models.bundle import load, save
from advseg.models.card import Card
from advseg.models.deeplab_v3plus import DeepLabV3Plus
from advseg.models.segmenter import Segmenter
from advseg.models.weights import WeightsError, load_weights

TINY = DeepLabV3PlusSettings(architecture="deeplab_v3plus_resnet50")
BLOCKS = (1, 1, 2, 2)


@pytest.fixture
def small(monkeypatch):
    """A ResNet-50 of few blocks."""
    monkeypatch.setitem(RESNET_BLOCKS, "deeplab_v3plus_resnet50", BLOCKS)


def lively(network: Segmenter) -> Segmenter:
    """With statistics, scales and shifts of batch norm as after training."""
    random = torch.Generator().manual_seed(1)
    for name, tensor in network.state_dict().items():
        if "running" in name:
            tensor.uniform_(*((0.5, 1.5) if name.endswith("var") else (-0.5, 0.5)), generator=random)
        elif tensor.ndim == 1 and name != "classifier.bias":
            tensor.uniform_(-0.2, 0.2, generator=random).add_(1.0 if name.endswith("weight") else 0.0)
    return network


def plain(state: dict[str, Tensor], images: Tensor, stride: int, *, training: bool) -> Tensor:
    """Chen et al., 2018, figure 2, on torchvision's dilated ResNet, each layer written out."""

    def norm(x, name):
        statistics = (None, None) if training else (state[f"{name}.running_mean"], state[f"{name}.running_var"])
        return F.batch_norm(x, *statistics, state[f"{name}.weight"], state[f"{name}.bias"], training=training)

    def conv(x, name, **options):
        return F.conv2d(x, state[f"{name}.weight"], **options)

    def unit(x, name, **options):
        return norm(conv(x, f"{name}.0", **options), f"{name}.1").relu()

    def bottleneck(x, name, stride, dilation):
        y = norm(conv(x, f"{name}.conv1"), f"{name}.bn1").relu()
        y = norm(conv(y, f"{name}.conv2", stride=stride, padding=dilation, dilation=dilation), f"{name}.bn2").relu()
        y = norm(conv(y, f"{name}.conv3"), f"{name}.bn3")
        if f"{name}.downsample.0.weight" in state:
            x = norm(conv(x, f"{name}.downsample.0", stride=stride), f"{name}.downsample.1")
        return (x + y).relu()

    third = [(2, 1), (1, 1)] if stride == 16 else [(1, 1), (1, 2)]
    fourth = [(1, 1), (1, 2)] if stride == 16 else [(1, 2), (1, 4)]
    x = F.max_pool2d(norm(conv(images, "conv1", stride=2, padding=3), "bn1").relu(), 3, 2, 1)
    low = x = bottleneck(x, "layer1.0", 1, 1)
    x = bottleneck(x, "layer2.0", 2, 1)
    for stage, blocks in (("layer3", third), ("layer4", fourth)):
        for number, (step, dilation) in enumerate(blocks):
            x = bottleneck(x, f"{stage}.{number}", step, dilation)
    seen = [unit(x, "pyramid.branches.0")]
    for number, rate in enumerate((6, 12, 18), 1):
        rate *= 16 // stride
        seen.append(unit(x, f"pyramid.branches.{number}", padding=rate, dilation=rate))
    pooled = unit(F.adaptive_avg_pool2d(x, 1), "pyramid.image")
    seen.append(F.interpolate(pooled, x.shape[-2:], mode="bilinear", align_corners=True))
    x = unit(torch.cat(seen, 1), "pyramid.project")
    x = F.interpolate(x, low.shape[-2:], mode="bilinear", align_corners=True)
    x = torch.cat([x, unit(low, "low_level")], 1)
    x = unit(unit(x, "fuse.0", padding=1), "fuse.1", padding=1)
    x = conv(x, "classifier", bias=state["classifier.bias"])
    return F.interpolate(x, images.shape[-2:], mode="bilinear", align_corners=True)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("stride", "size"), [(16, (65, 98)), (8, (51, 33)), (16, (8, 9))])
def test_it_computes_what_the_paper_says(stride, size, training):
    network = lively(DeepLabV3Plus(5, BLOCKS, False, output_stride=stride)).double().train(training)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    with torch.no_grad():
        logits, expected = network(images), plain(state, images, stride, training=training)

    assert logits.shape == (2, 5, *size)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


def test_all_of_it_learns_and_the_head_apart_from_the_body():
    network = DeepLabV3Plus(3, (1, 1, 1, 1), False)
    network.train()(torch.rand(2, 3, 33, 33)).sum().backward()

    groups = network.groups()

    assert all(p.grad is not None for group in groups.values() for p in group)
    assert sum(map(len, groups.values())) == len(list(network.parameters()))
    heads = {id(p) for p in groups["head"]}
    parts = {name.partition(".")[0] for name, p in network.named_parameters() if id(p) in heads}
    assert parts == {"pyramid", "low_level", "fuse", "classifier"}


def test_weights_of_either_stride_serve_both():
    fine, coarse = (DeepLabV3Plus(3, (1, 1, 1, 1), True, output_stride=stride) for stride in (8, 16))

    fine.load_state_dict(coarse.state_dict())
    assert all(torch.equal(tensor, coarse.state_dict()[name]) for name, tensor in fine.state_dict().items())


def made_resnet(blocks=BLOCKS) -> dict[str, Tensor]:
    """A state dict with the names of torchvision's `resnet50`, which has a classifier of 1000 classes."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}
    norms = {"bn1": 64}
    before = 64
    for stage, (count, planes) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), 1):
        for number in range(count):
            name = f"layer{stage}.{number}"
            shapes[f"{name}.conv1.weight"] = (planes, before, 1, 1)
            shapes[f"{name}.conv2.weight"] = (planes, planes, 3, 3)
            shapes[f"{name}.conv3.weight"] = (4 * planes, planes, 1, 1)
            norms |= {f"{name}.bn1": planes, f"{name}.bn2": planes, f"{name}.bn3": 4 * planes}
            if number == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * planes, before, 1, 1)
                norms[f"{name}.downsample.1"] = 4 * planes
            before = 4 * planes
    shapes |= {"fc.weight": (1000, 2048), "fc.bias": (1000,)}
    for name, channels in norms.items():
        shapes |= {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {name: torch.full(shape, 0.5) for name, shape in shapes.items()}


def test_it_starts_from_torchvisions_resnet_with_a_fresh_head(small, tmp_path):
    torch.save(made_resnet(), tmp_path / "resnet50-11ad3fa6.pth")
    network = build_segmenter(TINY, 4)
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    said = load_weights(network, TINY, tmp_path / "resnet50-11ad3fa6.pth")

    assert "kept fresh" in said and "2 ignored (fc.weight, fc.bias)" in said
    for name, tensor in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        assert torch.equal(tensor, fresh[name] if network.in_head(name) else torch.full_like(tensor, 0.5)), name


def test_a_resnet_of_another_depth_is_refused(small, tmp_path):
    torch.save(made_resnet((1, 1, 3, 2)), tmp_path / "deeper.pth")

    with pytest.raises(WeightsError, match=r"do not fit the body of deeplab_v3plus_resnet50: .* too many \(layer3\.2"):
        load_weights(build_segmenter(TINY, 4), TINY, tmp_path / "deeper.pth")


def test_a_model_of_another_backbone_is_refused_and_one_of_deeplab_v2_is_taken(small, tmp_path, monkeypatch):
    monkeypatch.setitem(RESNET_BLOCKS, "deeplab_v2_resnet50", BLOCKS)
    for backbone in ("caffe", "torchvision"):
        settings = DeepLabSettings(architecture="deeplab_v2_resnet50", backbone=backbone)
        save(tmp_path / backbone, card_of(settings), build_segmenter(settings, 4).state_dict(), None)
    network = build_segmenter(TINY, 4)

    assert "kept fresh" in load_weights(network, TINY, tmp_path / "torchvision")
    with pytest.raises(WeightsError, match="have backbone caffe, but the network's is torchvision"):
        load_weights(network, TINY, tmp_path / "caffe")


def card_of(settings) -> Card:
    return Card(
        segmenter=settings,
        discriminator=None,
        classes=("a", "b", "c", "d"),
        palette=((0, 0, 0), (1, 1, 1), (2, 2, 2), (3, 3, 3)),
        ignore_index=255,
        normalisation=normalisation_of(settings),
    )


def test_a_model_is_the_same_when_it_is_loaded(small, tmp_path):
    network = lively(build_segmenter(TINY, 4)).eval()
    save(tmp_path / "model", card_of(TINY), network.state_dict(), None)

    model = load(tmp_path / "model")

    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    pixels = IMAGENET(torch.from_numpy(image).permute(2, 0, 1)[None])
    with torch.inference_mode():
        expected = network(pixels).argmax(1)[0].numpy()
    assert np.array_equal(model.predict(image), expected)
    assert len(np.unique(expected)) > 1


def test_it_reads_images_as_its_backbone_does():
    assert normalisation_of(DeepLabV3PlusSettings()) == IMAGENET
    assert normalisation_of(DeepLabV3PlusSettings(backbone="caffe")) == CAFFE_MEANS


def test_an_output_stride_that_there_is_not_is_refused_in_one_line():
    with pytest.raises(ValueError, match="output_stride must be one of 8, 16, but is 4"):
        DeepLabV3PlusSettings(output_stride=4)
