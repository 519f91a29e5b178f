"""An ONNX file computes what the model does, from pixels on, without PyTorch. An export takes seconds."""

import json
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from advseg.models import architectures, deeplab_v3plus
from advseg.models.architectures import (
    CompactSettings,
    DeepLabSettings,
    DeepLabV3PlusSettings,
    SegmenterSettings,
    build_segmenter,
    normalisation_of,
)
from advseg.models.bundle import load, save
from advseg.models.card import Card
from advseg.models.model import Model
from advseg.models.onnx_graph import check_graph, onnx_graph
from advseg.models.resize import LongerSide, Resize

CLASSES = ("sky", "sea", "land, too")
CASES: dict[str, tuple[SegmenterSettings, Resize | None]] = {
    "compact, resized": (CompactSettings(width=8), (40, 24)),
    "caffe, longer side": (
        DeepLabSettings(architecture="deeplab_v2_resnet50", branches=2, batch_norm="frozen"),
        LongerSide(longer=40, multiple=8),
    ),
    "torchvision": (DeepLabV3PlusSettings(architecture="deeplab_v3plus_resnet50"), None),
}


@pytest.fixture(scope="module")
def new_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """Makes a model; a ResNet has a block a stage and a narrow head, for more of the same only takes time."""

    def make(segmenter: SegmenterSettings, resize: Resize | None, seed: int = 0) -> Model:
        card = Card(
            segmenter=segmenter,
            discriminator=None,
            classes=CLASSES,
            palette=((0, 0, 0), (0, 0, 255), (0, 255, 0)),
            ignore_index=255,
            normalisation=normalisation_of(segmenter),
            resize=resize,
        )
        path = tmp_path_factory.mktemp("models") / "model"
        with pytest.MonkeyPatch.context() as patch:
            for name in architectures.RESNET_BLOCKS:
                patch.setitem(architectures.RESNET_BLOCKS, name, (1, 1, 1, 1))
            patch.setattr(deeplab_v3plus, "_WIDTH", 16)
            torch.manual_seed(seed)
            save(path, card, build_segmenter(segmenter, len(CLASSES)).state_dict(), None)
            return load(path)

    return make


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, new_model: Callable[..., Model]) -> tuple[Model, bytes]:
    """A model and its ONNX file."""
    model = new_model(*CASES[request.param])
    return model, onnx_graph(model, {"reference": "beach@champion", "digest": "ab12"})


@pytest.mark.parametrize("size", [(1, 8, 8), (2, 30, 21), (1, 65, 48)], ids=str)
def test_it_computes_what_the_model_does(exported: tuple[Model, bytes], size: tuple[int, int, int]) -> None:
    model, graph = exported
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    ids, logits = session.run(["classes", "logits"], {"pixels": pixels})

    with torch.inference_mode():
        expected = model.logits(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    largest = max(1.0, expected.abs().max().item())
    np.testing.assert_allclose(logits / largest, expected.numpy() / largest, rtol=0, atol=1e-4)
    assert (ids.shape, ids.dtype) == (size, np.uint8)
    for image, found in zip(pixels, ids, strict=True):
        probabilities = model.probabilities(image).numpy()
        best = np.sort(probabilities, 0)
        clear = best[-1] - best[-2] > 1e-4
        assert clear.mean() > 0.9
        assert np.array_equal(found[clear], probabilities.argmax(0)[clear])


def test_it_says_what_it_is(exported: tuple[Model, bytes]) -> None:
    proto = onnx.load_from_string(exported[1])
    onnx.checker.check_model(proto)
    said = {entry.key: entry.value for entry in proto.metadata_props}
    assert said == {
        "classes": json.dumps(CLASSES),
        "palette": "[[0, 0, 0], [0, 0, 255], [0, 255, 0]]",
        "reference": "beach@champion",
        "digest": "ab12",
    }


def test_that_of_another_network_is_refused(exported: tuple[Model, bytes], new_model: Callable[..., Model]) -> None:
    model, graph = exported
    check_graph(model, graph)
    with pytest.raises(
        ValueError, match=r"of images \(1, 8, 8\) its logits are off by .*, and at most 0.0001 is allowed"
    ):
        check_graph(new_model(model.card.segmenter, model.card.resize, seed=1), graph)


def test_a_graph_that_does_not_run_is_refused_in_one_line(new_model: Callable[..., Model]) -> None:
    kinds = {"pixels": onnx.TensorProto.UINT8, "classes": onnx.TensorProto.UINT8, "logits": onnx.TensorProto.UINT8}
    pixels, *out = (onnx.helper.make_tensor_value_info(name, kind, [3, 3, 3, 3]) for name, kind in kinds.items())
    nodes = [onnx.helper.make_node("Identity", ["pixels"], [name]) for name in ("classes", "logits")]
    graph = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "small", [pixels], out), opset_imports=[onnx.helper.make_opsetid("", 18)]
    )
    graph.ir_version = 10

    with pytest.raises(ValueError, match=r"^of images \(1, 8, 8\) onnxruntime computes nothing: .*$"):
        check_graph(new_model(CompactSettings(width=8), None), graph.SerializeToString())
