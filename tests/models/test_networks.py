import pytest
import torch

from advseg.models.architectures import (
    NORMALISATIONS,
    RESNET_BLOCKS,
    CompactSettings,
    DeepLabSettings,
    Normalisation,
    build_segmenter,
)
from advseg.models.compact import Compact
from advseg.models.deeplab import DeepLabV2
from advseg.models.discriminator import DiscriminatorSettings, build_discriminator

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
    [Compact(4, 8).double(), DeepLabV2(4, SMALL_RESNET, frozen_batch_norm=True).double()],
    ids=["compact", "frozen batch norm"],
)
def test_an_image_has_the_same_output_in_any_batch(network):
    batch = images(3, 3, 33, 33)

    together = network.train()(batch)
    alone = torch.cat([network(image[None]) for image in batch])

    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)


def test_batch_statistics_make_an_output_depend_on_its_batch():
    network = DeepLabV2(4, SMALL_RESNET, frozen_batch_norm=False).double().train()
    batch = images(2, 3, 33, 33)

    assert not torch.allclose(network(batch)[0], network(batch[:1])[0])


@pytest.mark.parametrize("settings", [CompactSettings(), DeepLabSettings(architecture="deeplab_v2_resnet50")])
def test_the_head_is_the_last_layer_and_nothing_else(settings):
    network = build_segmenter(settings, 7)

    head = {id(p) for p in network.head()}

    names = {name.split(".")[0] for name, p in network.named_parameters() if id(p) in head}
    assert names == ({"branches"} if isinstance(network, Compact) else {"layer5"})
    assert all(p.shape[0] == 7 for p in network.head())


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
    with torch.inference_mode():
        logits = network.eval()(torch.zeros(1, 3, 41, 57))
    assert logits.shape == (1, 21, 41, 57)
    assert logits.isfinite().all()


@pytest.mark.parametrize("architecture", RESNET_BLOCKS)
def test_a_resnet_is_as_deep_as_its_name_says(architecture):
    with torch.device("meta"):
        network = build_segmenter(DeepLabSettings(architecture=architecture), 2)

    body = [
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d) and not name.startswith("layer5") and "downsample" not in name
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


def test_every_architecture_has_a_normalisation():
    assert set(NORMALISATIONS) == {"compact", *RESNET_BLOCKS}


def test_normalisation_subtracts_the_mean_of_a_channel_and_divides_by_its_spread():
    normalise = Normalisation(mean=(10.0, 20.0, 30.0), std=(1.0, 2.0, 4.0))

    values = normalise(torch.full((1, 3, 2, 2), 50.0))

    assert values[0, :, 0, 0].tolist() == [40.0, 15.0, 5.0]
