"""A registered model as `mlflow models serve` runs it: images in, masks out."""

from base64 import b64encode
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

from ...models.bundle import load
from ...models.manifest import checksum_of
from ...trainers.devices import usual_device
from ...trainers.errors import UserError
from ...trainers.marked import made_of
from ...trainers.prediction import decode_scene, encode_mask
from .serving_files import IMAGE, MASK


class Served(PythonModel):
    """The model in a folder, of which `load` alone reads, and only once it is served."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_context(self, context: Any) -> None:
        """Raises BrokenDirectoryError as `load` does."""
        self._model = load(self._folder, usual_device())
        self._checksum = str(checksum_of(self._folder))

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride] of its own they say that it returns None
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """A mask for each image: the PNG that `advseg predict` writes, in base64. An image is a PNG's or JPEG's bytes.

        Raises MlflowException, which a client is told as status 400, for what is no image.
        """
        masks = [self._mask(content, f"image {row}") for row, content in enumerate(model_input[IMAGE])]
        return pd.DataFrame({MASK: masks})

    def _mask(self, content: bytes, name: str) -> str:
        try:
            (found,) = self._model.predictions(decode_scene(content, name, self._model.card.decoding)[None])
        except (UserError, ValueError) as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
        origin = made_of(self._checksum, content, averaged=False)
        return b64encode(encode_mask(found.mask, self._model.card.palette, origin)).decode()
