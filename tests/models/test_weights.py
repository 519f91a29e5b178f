"""Start weights from everywhere that users have them."""

import argparse
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from advseg.models.architectures import (
    RESNET_BLOCKS,
    CompactSettings,
    DeepLabSettings,
    SegmenterSettings,
    build_segmenter,
    normalisation_of,
)
from advseg.models.bundle import CARD, SEGMENTER, save
from advseg.models.card import Card
from advseg.models.manifest import write_directory
from advseg.models.weights import WeightsError, load_weights, match, read_weights

COMPACT = CompactSettings(width=8)
RESNET50 = DeepLabSettings(architecture="deeplab_v2_resnet50", backbone="torchvision")


def network_of(settings: SegmenterSettings = COMPACT, classes: int = 3, seed: int = 0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_segmenter(settings, classes)


def state_of(settings: SegmenterSettings = COMPACT, classes: int = 3, seed: int = 1) -> dict[str, Tensor]:
    """Weights of another training."""
    return {name: tensor + 0.5 for name, tensor in network_of(settings, classes, seed).state_dict().items()}


def torchvision_names(blocks: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state dict of torchvision's ResNet with these blocks, by the rule of its definition."""

    def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
        parts = ("weight", "bias", "running_mean", "running_var")
        return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.num_batches_tracked": ()}

    names = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    channels = 64
    for stage, (planes, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True), 1):
        for number in range(count):
            at = f"layer{stage}.{number}"
            names |= {f"{at}.conv1.weight": (planes, channels, 1, 1), **norm(f"{at}.bn1", planes)}
            names |= {f"{at}.conv2.weight": (planes, planes, 3, 3), **norm(f"{at}.bn2", planes)}
            names |= {f"{at}.conv3.weight": (4 * planes, planes, 1, 1), **norm(f"{at}.bn3", 4 * planes)}
            if number == 0:
                names |= {f"{at}.downsample.0.weight": (4 * planes, channels, 1, 1)}
                names |= norm(f"{at}.downsample.1", 4 * planes)
            channels = 4 * planes
    return {**names, "fc.weight": (1000, 2048), "fc.bias": (1000,)}


def filled(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    return {name: torch.full(shape, 0.25) if shape else torch.tensor(7) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("architecture", "published"), [("deeplab_v2_resnet50", 25_557_032), ("deeplab_v2_resnet101", 44_549_160)]
)
def test_the_names_of_torchvision_are_those_of_the_body(architecture, published):
    shapes = torchvision_names(RESNET_BLOCKS[architecture])
    learnt = [name for name in shapes if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert sum(torch.Size(shapes[name]).numel() for name in learnt) == published
    with torch.device("meta"):
        network = build_segmenter(DeepLabSettings(architecture=architecture), 21)

    body = {name: tuple(t.shape) for name, t in network.state_dict().items() if not name.startswith("layer5")}

    assert body == {name: shape for name, shape in shapes.items() if not name.startswith("fc.")}


def test_a_resnet_of_torchvision_becomes_the_body_and_its_classifier_is_ignored(tmp_path):
    given = filled(torchvision_names(RESNET_BLOCKS["deeplab_v2_resnet50"]))
    torch.save(given, tmp_path / "resnet50.pth")
    network = network_of(RESNET50)
    head = {name: weight.clone() for name, weight in network.layer5.named_parameters()}

    told = load_weights(network, RESNET50, tmp_path / "resnet50.pth")

    for name, tensor in network.state_dict().items():
        if not name.startswith("layer5") and not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, given[name]), name
    for name, weight in network.layer5.named_parameters():
        assert torch.equal(weight, head[name])
    values = 25_557_032 - 2_049_000 + 2 * 26_560
    assert told == (
        f"weights {tmp_path}/resnet50.pth: 265 of 273 tensors matched ({values:,} values); "
        "8 kept fresh (layer5.conv2d_list.0.weight, layer5.conv2d_list.0.bias, layer5.conv2d_list.1.weight, ...), "
        "2 ignored (fc.weight, fc.bias)"
    )


def legacy(state: dict[str, Tensor], path: Path) -> None:
    """The format of torch of 2018, without the counters that its batch norm did not have."""
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, path, _use_new_zipfile_serialization=False)


def within(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def parameters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.nn.Parameter(tensor, tensor.is_floating_point()) for name, tensor in state.items()}


WAYS: dict[str, Callable[[dict[str, Tensor], Path], object]] = {
    "as it is": torch.save,
    "in the format of 2018": legacy,
    "as parameters": lambda state, path: torch.save(parameters(state), path),
    "of a parallel network": lambda state, path: torch.save(within("module", state), path),
    "of a network in networks": lambda state, path: legacy(within("module.Scale", state), path),
    "under state_dict": lambda state, path: torch.save({"epoch": 3, "state_dict": state, "optimizer": {}}, path),
    "under model": lambda state, path: torch.save({"model": within("module", state)}, path),
    "under two": lambda state, path: torch.save({"model": {"model_state_dict": state}}, path),
}


def assert_taken_whole(settings: SegmenterSettings, state: dict[str, Tensor], path: Path) -> None:
    network = network_of(settings)
    told = load_weights(network, settings, path)
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    assert all(torch.equal(network.state_dict()[name], state[name]) for name in names)
    assert f"{len(names)} of {len(names)} tensors matched" in told
    assert told.endswith("values)")


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_state_dict_is_taken_whole_however_it_was_kept(way, tmp_path):
    WAYS[way](state_of(), tmp_path / "w.pth")

    assert_taken_whole(COMPACT, state_of(), tmp_path / "w.pth")


def test_safetensors_are_taken(tmp_path):
    save_file(state_of(), tmp_path / "w.safetensors")

    assert_taken_whole(COMPACT, state_of(), tmp_path / "w.safetensors")


def test_a_deeplab_checkpoint_of_2018_is_taken_with_its_head(tmp_path):
    settings = DeepLabSettings(architecture="deeplab_v2_resnet50")
    legacy(within("Scale", state_of(settings)), tmp_path / "w.pth")

    assert_taken_whole(settings, state_of(settings), tmp_path / "w.pth")


def test_a_model_of_ours_is_taken(tmp_path):
    state, network = state_of(), network_of()
    save(tmp_path / "model", card_of(COMPACT), state, None)

    load_weights(network, COMPACT, tmp_path / "model")

    torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)


def card_of(settings: SegmenterSettings) -> Card:
    return Card(
        segmenter=settings,
        discriminator=None,
        classes=("a", "b", "c"),
        palette=((0, 0, 0), (1, 1, 1), (2, 2, 2)),
        ignore_index=255,
        normalisation=normalisation_of(settings),
    )


def test_a_model_of_the_other_backbone_is_refused_though_its_names_are_the_same(tmp_path):
    caffe = DeepLabSettings(architecture="deeplab_v2_resnet50", backbone="caffe")
    save(tmp_path / "model", card_of(caffe), state_of(caffe), None)

    with pytest.raises(WeightsError, match="have backbone caffe, but the network's is torchvision"):
        load_weights(network_of(RESNET50), RESNET50, tmp_path / "model")


def test_a_head_of_another_number_of_classes_stays_fresh(tmp_path):
    save_file(state_of(classes=7), tmp_path / "w.safetensors")
    network = network_of(classes=3)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    told = load_weights(network, COMPACT, tmp_path / "w.safetensors")

    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if not name.startswith("branches.")}
    assert "8 kept fresh (branches.0.weight (7, 8, 3, 3) for (3, 8, 3, 3), branches.0.bias (7,) for (3,), " in told


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_converted(dtype, tmp_path):
    state = {name: tensor.to(dtype) for name, tensor in state_of().items()}
    torch.save(state, tmp_path / "w.pth")
    network = network_of().double()

    load_weights(network, COMPACT, tmp_path / "w.pth")

    for name, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float64
        assert torch.equal(tensor, state[name].double())


NAMES = ("stem.0.weight", "body.1.0.0.weight", "branches.2.bias")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_no_finite_number_is_refused(name, value, tmp_path):
    state = state_of()
    state[name].view(-1)[-1] = value
    assert_refused(state, tmp_path, f"hold other than finite floating-point numbers in 1 of 37 tensors ({name}): ")


def test_a_value_that_overflows_the_networks_precision_is_refused(tmp_path):
    state = {name: tensor.double() for name, tensor in state_of().items()}
    state["stem.0.weight"][0] = 1e300
    assert_refused(state, tmp_path, "finite floating-point numbers in 1 of 37 tensors (stem.0.weight)")


def test_whole_numbers_are_no_weights(tmp_path):
    state = {name: tensor.mul(100).to(torch.int8) for name, tensor in state_of().items()}
    assert_refused(state, tmp_path, "finite floating-point numbers in 37 of 37 tensors (stem.0.weight, ")


def assert_refused(state: object, folder: Path, message: str, settings: SegmenterSettings = COMPACT) -> None:
    """One line that holds the message, and a network that stays as it was."""
    torch.save(state, folder / "w.pth")
    network = network_of(settings)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(network, settings, folder / "w.pth")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


def test_a_body_that_lacks_a_tensor_is_refused(tmp_path):
    state = state_of()
    del state["fuse.1.bias"]
    assert_refused(state, tmp_path, "do not fit the body of compact: 1 missing (fuse.1.bias); ")


def test_running_statistics_belong_to_the_body(tmp_path):
    given = filled(torchvision_names(RESNET_BLOCKS["deeplab_v2_resnet50"]))
    statistics = [name for name in given if name.endswith("running_var")]
    for name in statistics:
        del given[name]
    assert_refused(given, tmp_path, f"{len(statistics)} missing (bn1.running_var, layer1.0.bn1.running_var, ", RESNET50)


def test_a_body_of_another_width_is_refused_with_both_shapes(tmp_path):
    state = state_of(CompactSettings(width=16))
    message = "do not fit the body of compact: 44 of other shapes (stem.0.weight (16, 3, 3, 3) for (8, 3, 3, 3), "
    count = sum(not name.startswith("branches") for name in state)
    assert_refused(state, tmp_path, message.replace("44", str(count)))


def test_a_deeper_resnet_is_refused_though_it_has_every_tensor_of_the_body(tmp_path):
    given = filled(torchvision_names(RESNET_BLOCKS["deeplab_v2_resnet101"]))
    assert_refused(given, tmp_path, "body of deeplab_v2_resnet50: 255 too many (layer3.6.conv1.weight, ", RESNET50)


def test_a_shallower_resnet_is_refused(tmp_path):
    given = filled(torchvision_names((2, 2, 2, 2)))
    assert_refused(given, tmp_path, "missing (layer1.2.conv1.weight, ", RESNET50)


NO_STATE_DICTS = {
    "no known key": {"epoch": 3, "weights": {}},
    "nothing": {},
    "a number for a tensor": {"stem.0.weight": 3.0},
    "sparse": {"stem.0.weight": torch.eye(2).to_sparse()},
    "list": [torch.zeros(3)],
    "one tensor": torch.zeros(3),
}


@pytest.mark.parametrize("content", NO_STATE_DICTS.values(), ids=NO_STATE_DICTS)
def test_what_is_no_state_dict_is_refused_with_the_way_to_make_one(content, tmp_path):
    assert_refused(content, tmp_path, "are no state dict: save one by torch.save(network.state_dict(), path)")


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_are_never_unpickled_and_the_way_to_convert_them_is_told(zipped, tmp_path):
    blasted = tmp_path / "blasted"
    torch.save({**state_of(), "extra": Bomb(blasted)}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)

    with pytest.raises(WeightsError, match=r"hold more than tensors \(\S+\).*weights_only=False.*state dict alone"):
        read_weights(tmp_path / "w.pth")

    assert not blasted.exists()


@pytest.mark.parametrize(
    "content", [network_of(), {"state_dict": {}, "args": argparse.Namespace(lr=1)}], ids=["whole network", "arguments"]
)
def test_what_training_programs_save_beside_weights_is_named(content, tmp_path):
    kind = "advseg.models.compact.Compact" if isinstance(content, torch.nn.Module) else "argparse.Namespace"
    assert_refused(content, tmp_path, f"hold more than tensors ({kind}), and reading that could run code: if you")


def test_a_dict_that_holds_itself_is_no_state_dict(tmp_path):
    endless = {}
    endless["state_dict"] = endless
    assert_refused(endless, tmp_path, "are no state dict")


def test_tensors_without_values_are_no_state_dict(tmp_path):
    empty = {name: tensor.to("meta") for name, tensor in state_of().items()}
    assert_refused(empty, tmp_path, "are no state dict")


def test_tensors_of_eight_bits_are_no_weights(tmp_path):
    state = state_of()
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="hold other than finite floating-point numbers in 37 of 37 tensors"):
        load_weights(network_of(), COMPACT, tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_pipe_is_no_file_of_weights(name, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(WeightsError, match=rf"{name} cannot be read \(no regular file\): name a file of weights"):
        load_weights(network_of(), COMPACT, tmp_path / name)


def test_weights_of_a_model_that_its_manifest_does_not_list_are_not_read(tmp_path):
    save(tmp_path / "model", card_of(COMPACT), state_of(), None)
    card, weights = ((tmp_path / "model" / name).read_bytes() for name in (CARD, SEGMENTER))
    write_directory(tmp_path / "model", lambda path: (path / CARD).write_bytes(card) and None)
    (tmp_path / "model" / SEGMENTER).write_bytes(weights)
    with pytest.raises(WeightsError, match=r"are no model: .* does not list it"):
        load_weights(network_of(), COMPACT, tmp_path / "model")


def test_a_model_of_damaged_weights_is_told_though_its_manifest_vouches_for_them(tmp_path):
    save(tmp_path / "model", card_of(COMPACT), state_of(), None)
    card = (tmp_path / "model" / CARD).read_bytes()

    def write(path):
        (path / CARD).write_bytes(card)
        (path / SEGMENTER).write_bytes(b"no tensors")

    write_directory(tmp_path / "model", write)
    with pytest.raises(WeightsError, match="are damaged, or no safetensors file"):
        load_weights(network_of(), COMPACT, tmp_path / "model")


def test_weights_that_do_not_exist_are_told(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.pth do not exist: put them there or name where they lie"):
        read_weights(tmp_path / "nowhere.pth")


def test_a_folder_that_holds_no_model_is_told(tmp_path):
    with pytest.raises(WeightsError, match=r"are no model: .* has no MANIFEST\.json"):
        load_weights(network_of(), COMPACT, tmp_path)


@pytest.mark.parametrize("content", [b"c", b"c\n\n.", b"c0\n1\n.", b"cA\x00"])
def test_bytes_that_happen_to_begin_as_a_pickled_name_are_damage(tmp_path, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"are damaged, or no file of torch\.save"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@given(data=st.data())
def test_damaged_files_are_told_in_one_line(name, data, tmp_path_factory):
    file = tmp_path_factory.mktemp("damaged") / name
    (save_file if name.endswith("safetensors") else torch.save)({"a.weight": torch.arange(8.0)}, file)
    content = file.read_bytes()
    damage = data.draw(st.sampled_from(["cut", "replace"]))
    end = data.draw(st.integers(0, len(content) - 1))
    file.write_bytes(content[:end] if damage == "cut" else data.draw(st.binary(max_size=200)))

    with pytest.raises(WeightsError) as caught:
        read_weights(file)

    # Bytes can by chance name something, as a pickle does that would run code.
    assert str(caught.value).startswith(
        (f"weights {file} are damaged, or no", f"weights {file} hold more than tensors")
    )
    assert "\n" not in str(caught.value)


shapes = st.sampled_from([(2,), (3,), (2, 2)])
bodies = st.dictionaries(st.sampled_from(["conv.weight", "conv.bias", "norm.weight", "norm.running_mean"]), shapes)
heads = st.dictionaries(st.sampled_from(["head.weight", "head.bias"]), shapes, min_size=1)
others = st.dictionaries(st.sampled_from(["fc.weight", "conv.extra", "norm.num_batches_tracked"]), shapes)


@given(bodies, heads, bodies, heads | st.just({}), others)
def test_every_tensor_of_both_sides_is_told_once(body, head, given_body, given_head, rest):
    network = {name: torch.zeros(shape) for name, shape in (body | head).items()}
    offered = {name: torch.zeros(shape) for name, shape in (given_body | given_head | rest).items()}

    found = match(network, list(head), offered)

    def bare(names):
        return [name.partition(" ")[0] for name in names]

    ours = bare(itertools.chain(found.matched, found.missing, found.mismatched, found.fresh))
    theirs = bare(itertools.chain(found.matched, found.mismatched, found.unexpected, found.ignored))
    assert sorted(ours) == sorted(network)
    counted = {name for name in offered if not name.endswith("num_batches_tracked") and name not in bare(found.fresh)}
    assert sorted(theirs) == sorted(counted)
    assert all(network[name].shape == offered[name].shape for name in found.matched)
    assert found.fits == (set(body) <= set(found.matched) and not found.unexpected)
    assert set(bare(found.fresh)) in (set(), set(head))
