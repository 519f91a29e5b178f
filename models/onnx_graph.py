"""A model as an ONNX graph, from pixels to class ids: for whoever has neither PyTorch nor this package."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import onnxruntime
import onnxscript  # noqa: F401, what PyTorch's exporter is made of: where it is missing it is to be named
import torch
from onnx.helper import set_model_props
from torch import Tensor, nn
from torch.export import Dim

from .architectures import LEAST_SIDE
from .card import Card
from .files import one_line
from .model import Model

PIXELS, CLASSES, LOGITS = "pixels", "classes", "logits"
"""What goes in, uint8 [N, H, W, 3], and what comes out: class ids [N, H, W], logits [N, K, h, w]."""
TOLERANCE = 1e-4
"""How far logits may be from the network's, as a share of the largest, if that is above 1."""
_SIZES = ((1, LEAST_SIDE, LEAST_SIDE), (2, 33, 47), (1, 64, 40), (3, 17, 96))
"""Images, height and width of what a graph is checked by: odd and even, on end and lying."""


class _Graph(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.segmenter = model.segmenter  # whose weights are the graph's
        self._model = model
        # As masks are written.
        self._ids = torch.uint8 if len(model.card.classes) <= 256 else torch.int32

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._model.logits(pixels.permute(0, 3, 1, 2))
        return self._model.softmax(logits, pixels.shape[1:3]).argmax(1).to(self._ids), logits


def onnx_graph(model: Model, properties: Mapping[str, str]) -> bytes:
    """The ONNX file of a model, for any number of images of any size, with `properties`, classes and palette.

    Normalisation, resizing and argmax are in it. Raises ValueError unless onnxruntime computes by it what the network
    does.
    """
    free = {0: Dim("images"), 1: Dim("height", min=LEAST_SIDE), 2: Dim("width", min=LEAST_SIDE)}
    try:
        with _silent():
            program = torch.onnx.export(
                _Graph(model).eval(),
                (torch.zeros(2, 24, 32, 3, dtype=torch.uint8),),
                input_names=[PIXELS],
                output_names=[CLASSES, LOGITS],
                dynamic_shapes={PIXELS: free},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        # Of networks that are not ours it is not known whether they can be written as a graph.
        raise ValueError(f"PyTorch makes no graph of it: {one_line(error)[:200]}") from None
    assert program is not None
    proto = program.model_proto
    set_model_props(proto, {**_described(model.card), **properties})
    content = proto.SerializeToString()
    check_graph(model, content)
    return content


def _described(card: Card) -> dict[str, str]:
    return {"classes": json.dumps(card.classes), "palette": json.dumps(card.palette)}


@torch.inference_mode()
def check_graph(model: Model, graph: bytes) -> None:
    """Raise ValueError unless onnxruntime computes by an ONNX file what the model's network does, at several sizes."""
    # What it says of a graph that it cannot compute is told by the error.
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    draws = np.random.Generator(np.random.PCG64(0))
    for size in _SIZES:
        pixels = draws.integers(0, 256, (*size, 3), np.uint8)
        try:
            ids, logits = (torch.from_numpy(found) for found in session.run([CLASSES, LOGITS], {PIXELS: pixels}))
        except Exception as error:
            # onnxruntime's errors have no class of their own but Exception.
            raise ValueError(f"of images {size} onnxruntime computes nothing: {one_line(error)[:200]}") from None
        expected = model.logits(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        off = (logits - expected).abs().max().item() / max(1.0, expected.abs().max().item())
        probabilities = model.softmax(expected, size[1:])
        # Of two classes that are as probable either will do.
        lost = probabilities.amax(1) - probabilities.gather(1, ids[:, None].long())[:, 0]
        if not (off <= TOLERANCE and lost.max().item() <= TOLERANCE):
            raise ValueError(f"of images {size} its logits are off by {off:.1e}, and at most {TOLERANCE:g} is allowed")


@contextmanager
def _silent() -> Iterator[None]:
    """PyTorch's exporter warns of itself, and of packages that it could use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
