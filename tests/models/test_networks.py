import pytest
import torch
from torch.nn import functional as F

from advseg.models.architectures import (
    ARCHITECTURES,
    CAFFE_MEANS,
    IMAGENET,
    RESNET_BLOCKS,
    CompactSettings,
    DeepLabSettings,
    Normalisation,
    TransformersSettings,
    build_segmenter,
    normalisation_of,
)
from advseg.models.compact import Compact
from advseg.models.deeplab_v2 import DILATIONS, DeepLabV2
from advseg.models.deeplab_v3plus import DeepLabV3Plus
from advseg.models.discriminator import DiscriminatorSettings, build_discriminator
from advseg.models.resnet import BatchNorm

SMALL_RESNET = (1, 1, 1, 1)


def parameters_of(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_compact_has_less_than_a_million_parameters_at_its_greatest_width():
    assert parameters_of(build_segmenter(CompactSettings(width=56), 21)) < 1_000_000


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 23), (31, 9), (5, 64)])
def test_compact_gives_logits_of_the_size_of_the_image(height, width):
    logits = Compact(6, 8)(torch.zeros(2, 3, height, width))

    assert logits.shape == (2, 6, height, width)


@pytest.mark.parametrize(
    "network",
    [
        Compact(4, 8).double(),
        DeepLabV2(4, SMALL_RESNET, frozen_batch_norm=True).double(),
        DeepLabV3Plus(4, SMALL_RESNET, frozen_batch_norm=True).double(),
    ],
    ids=["compact", "v2 with frozen batch norm", "v3+ with frozen batch norm"],
)
def test_an_image_has_the_same_output_in_any_batch_where_they_are_not_mixed(network):
    assert not network.mixes_images
    batch = images(3, 3, 33, 33)

    together = network.train()(batch)
    alone = torch.cat([network(image[None]) for image in batch])

    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", [DeepLabV2, DeepLabV3Plus])
def test_batch_statistics_make_an_output_depend_on_its_batch(kind):
    network = kind(4, SMALL_RESNET, frozen_batch_norm=False).double().train()
    assert network.mixes_images
    batch = images(2, 3, 33, 33)

    assert not torch.allclose(network(batch)[0], network(batch[[0, 0]])[0])


@pytest.mark.parametrize("settings", [CompactSettings(), DeepLabSettings(architecture="deeplab_v2_resnet50")])
def test_the_head_is_the_last_layer_and_nothing_else(settings):
    network = build_segmenter(settings, 7)

    head = network.groups()["head"]

    learning = {id(p) for p in head}
    names = {name.split(".")[0] for name, p in network.named_parameters() if id(p) in learning}
    assert names == ({"branches"} if isinstance(network, Compact) else {"layer5"})
    assert all(p.shape[0] == 7 for p in head)


def test_equal_seeds_of_torch_give_equal_networks():
    def built():
        torch.manual_seed(5)
        return build_segmenter(CompactSettings(width=8), 3).state_dict()

    first, second = built(), built()

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_deeplab_on_resnet_101_carries_the_names_and_shapes_of_the_published_checkpoints():
    network = build_segmenter(DeepLabSettings(), 21)

    shapes = {name: tuple(t.shape) for name, t in network.state_dict().items()}

    expected = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_var": (64,),
        "layer1.0.conv1.weight": (64, 64, 1, 1),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.0.downsample.1.running_mean": (256,),
        "layer2.3.bn3.weight": (512,),
        "layer3.22.conv2.weight": (256, 256, 3, 3),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
        "layer5.conv2d_list.0.weight": (21, 2048, 3, 3),
        "layer5.conv2d_list.3.bias": (21,),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert "layer1.1.downsample.0.weight" not in shapes
    assert "layer3.23.conv1.weight" not in shapes


@pytest.mark.parametrize("backbone", ["caffe", "torchvision"])
def test_a_full_resnet_101_segments_an_image_of_any_shape_into_21_classes(backbone):
    network = build_segmenter(DeepLabSettings(backbone=backbone), 21).eval()

    with torch.inference_mode():
        logits = network(255 * torch.rand(1, 3, 41, 57))

    assert logits.shape == (1, 21, 41, 57)
    assert logits.isfinite().all()
    body, branch = 42_500_160, 2048 * 21 * 3 * 3 + 21
    assert parameters_of(network) == body + 4 * branch == 44_048_532


def strided(network: DeepLabV2, image: torch.Tensor, stride_at: str) -> torch.Tensor:
    """The features of the body undilated: a ResNet of stride 32, whose stages begin with a stride at `stride_at`."""
    state, stages = network.state_dict(), (network.layer1, network.layer2, network.layer3, network.layer4)

    def convolved(x, name, norm, **options):
        x = F.conv2d(x, state[f"{name}.weight"], **options)
        statistics = [state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *statistics)

    x = convolved(image, "conv1", "bn1", stride=2, padding=3).relu()
    x = F.max_pool2d(x, 3, stride=2, padding=1, ceil_mode=stride_at == "conv1")
    for stage, blocks in enumerate(stages, 1):
        for number in range(len(blocks)):
            at, step = f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1
            strides = {"conv1": (step, 1), "conv2": (1, step)}[stride_at]
            y = convolved(x, f"{at}.conv1", f"{at}.bn1", stride=strides[0]).relu()
            y = convolved(y, f"{at}.conv2", f"{at}.bn2", stride=strides[1], padding=1).relu()
            y = convolved(y, f"{at}.conv3", f"{at}.bn3")
            if number == 0:
                x = convolved(x, f"{at}.downsample.0", f"{at}.downsample.1", stride=step)
            x = (x + y).relu()
    return x


@pytest.mark.parametrize(("backbone", "stride_at"), [("caffe", "conv1"), ("torchvision", "conv2")])
@pytest.mark.parametrize("size", [(64, 64), (75, 98)])
def test_a_dilated_body_computes_on_a_finer_grid_what_the_resnet_of_its_weights_computes(backbone, stride_at, size):
    network = DeepLabV2(2, (2, 2, 2, 2), True, backbone=backbone).double().eval()
    for name, statistic in network.named_buffers():
        if "running" in name:
            torch.nn.init.uniform_(statistic, *((0.5, 1.5) if name.endswith("var") else (-0.5, 0.5)))
    features = []
    network.layer4.register_forward_hook(lambda *seen: features.append(seen[-1]))
    image = images(1, 3, *size)

    with torch.inference_mode():
        network(image)
        expected = strided(network, image, stride_at)

    assert (expected > 0).double().mean() > 0.2
    torch.testing.assert_close(features[0][..., ::4, ::4], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("backbone", "strides"), [("caffe", ((2, 2), (1, 1))), ("torchvision", ((1, 1), (2, 2)))])
def test_the_stride_of_a_block_sits_where_its_backbone_has_it(backbone, strides):
    network = DeepLabV2(2, (1, 1, 1, 1), True, backbone=backbone)

    block = network.layer2[0]

    assert (block.conv1.stride, block.conv2.stride) == strides
    assert block.downsample[0].stride == (2, 2)


@pytest.mark.parametrize("branches", [2, 4])
def test_the_first_branches_are_summed_and_the_others_never_learn(branches):
    network = DeepLabV2(3, SMALL_RESNET, True, branches=branches).double().train()
    features = []
    network.layer4.register_forward_hook(lambda *seen: features.append(seen[-1]))
    before = {name: weight.clone() for name, weight in network.layer5.named_parameters()}
    optimizer = torch.optim.SGD(network.layer5.parameters(), lr=0.1, momentum=0.9, weight_decay=0.5)

    logits = network(images(2, 3, 33, 41))

    expected = torch.zeros(())
    for convolution, dilation in list(zip(network.layer5.conv2d_list, DILATIONS, strict=True))[:branches]:
        expected = expected + F.conv2d(
            features[0], convolution.weight, convolution.bias, padding=dilation, dilation=dilation
        )
    expected = F.interpolate(expected, (33, 41), mode="bilinear", align_corners=True)
    torch.testing.assert_close(logits, expected, rtol=1e-12, atol=1e-12)

    logits.square().mean().backward()
    optimizer.step()
    for name, weight in network.layer5.named_parameters():
        used = int(name.split(".")[1]) < branches
        assert (weight.grad is not None) == used
        assert torch.equal(weight, before[name]) != used


@pytest.mark.parametrize("architecture", RESNET_BLOCKS)
def test_a_resnet_is_as_deep_as_its_name_says(architecture):
    with torch.device("meta"):
        network = build_segmenter(ARCHITECTURES[architecture](architecture=architecture), 2)

    body = [
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d) and not network.in_head(f"{name}.weight") and "downsample" not in name
    ]
    # The published depth counts the fully connected layer, which the head replaces.
    assert architecture.endswith(f"resnet{len(body) + 1}")


@pytest.mark.parametrize("frozen", [True, False])
def test_scale_and_shift_of_batch_norm_never_learn(frozen):
    network = DeepLabV2(3, SMALL_RESNET, frozen_batch_norm=frozen).train()

    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    network(torch.zeros(2, 3, 33, 33)).sum().backward()

    assert norms
    assert all(not p.requires_grad and p.grad is None for norm in norms for p in norm.parameters())
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_batch_norm_is_torchs_own_but_for_the_count_of_batches():
    plain, ours = torch.nn.BatchNorm2d(3), BatchNorm(3)
    images = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))

    for module in (plain, ours):
        module(images)
    assert torch.equal(ours.eval()(images), plain.eval()(images))
    expected = {**plain.state_dict(), "num_batches_tracked": torch.tensor(0)}
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(ours.state_dict()[name], expected[name]) for name in expected)


@pytest.mark.parametrize("frozen", [True, False])
def test_only_frozen_batch_norm_keeps_its_running_statistics_in_training(frozen):
    network = DeepLabV2(3, SMALL_RESNET, frozen_batch_norm=frozen)
    before = network.bn1.running_mean.clone()

    network.eval().train()
    network(1 + torch.zeros(2, 3, 33, 33))

    assert network.training
    assert network.bn1.training is not frozen
    assert torch.equal(network.bn1.running_mean, before) is frozen


@pytest.mark.parametrize(("classifier", "kernel"), [("strided", 4), ("dense", 3)])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47)])
def test_a_discriminator_judges_every_pixel(classifier, kernel, height, width):
    network = build_discriminator(DiscriminatorSettings(classifier=classifier), 21)

    logits = network(torch.full((2, 21, height, width), 1 / 21))

    assert logits.shape == (2, 1, height, width)
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "conv1.weight": (64, 21, 4, 4),
        "conv2.weight": (128, 64, 4, 4),
        "conv3.weight": (256, 128, 4, 4),
        "conv4.weight": (512, 256, 4, 4),
        "classifier.weight": (1, 512, kernel, kernel),
    }


def test_every_architecture_has_settings_of_its_own_name():
    for name, kind in ARCHITECTURES.items():
        needed = {"pretrained": "./folder"} if kind is TransformersSettings else {}
        assert kind(architecture=name, **needed).architecture == name


def test_images_are_read_as_those_of_the_start_weights_were():
    assert normalisation_of(DeepLabSettings()) == CAFFE_MEANS
    assert normalisation_of(DeepLabSettings(backbone="torchvision")) == IMAGENET
    assert normalisation_of(CompactSettings()) == IMAGENET


def test_normalisation_subtracts_the_mean_of_a_channel_and_divides_by_its_spread():
    normalise = Normalisation(mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0))

    values = normalise(torch.full((1, 3, 2, 2), 50.0))

    assert values[0, :, 0, 0].tolist() == [40.0, 15.0, 5.0]


@pytest.mark.parametrize(("height", "width"), [(20, 20), (1, 1), (20, 100), (100, 20)])
def test_a_discriminator_judges_small_maps_as_if_nothing_were_known_around_them(height, width):
    network = build_discriminator(DiscriminatorSettings(), 5)
    probabilities = torch.rand(2, 5, height, width).softmax(1)
    padded = torch.zeros(2, 5, max(height, 32), max(width, 32))
    padded[..., :height, :width] = probabilities

    judged = network(probabilities)

    assert judged.shape == (2, 1, height, width)
    assert torch.equal(judged, network(padded)[..., :height, :width])
