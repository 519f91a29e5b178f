"""A model for other programs: one ONNX file."""

from functools import partial
from pathlib import Path

from ..models.manifest import checksum_of
from ..models.onnx_graph import onnx_graph
from ..trainers.errors import UserError
from ..trainers.whole_file import replace_whole
from .outputs import refuse_other_than_file
from .predict import load_model, protocol_of


def export_onnx(model_path: Path, reference: str, file: Path) -> str:
    """Write the ONNX file of the model in a directory; `reference` is what people call it, and stands in the file.

    Returns what that file does otherwise than `predict`, in words; empty if nothing.

    Raises UserError for what is no model, and for one that onnxruntime computes otherwise: nothing is written then.
    """
    refuse_other_than_file(file)
    model = load_model(model_path)
    digest = checksum_of(model_path) or ""
    try:
        graph = onnx_graph(model, {"reference": reference, "digest": digest})
    except ValueError as error:
        raise UserError(
            f"{reference} cannot be exported ({error}): install onnxruntime in another version, or serve it"
        ) from None
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_whole(file, partial(Path.write_bytes, data=graph))
    settings = protocol_of(model).evaluation
    if settings.mode == "whole":
        return ""
    height, width = settings.window
    return f"; it reads images whole, but was judged by windows of {height} x {width} pixels: cut them yourself"
