"""What lies beside a registered model for those who trust their registry: files by which MLflow serves it.

No manifest lists them, so nothing of ours reads them: what is pulled is without.
"""

import json
import platform
from base64 import b64encode
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path

import yaml
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from PIL import Image

from ...models.architectures import LEAST_SIDE
from ...models.card import Card

IMAGE, MASK = "image", "mask"
"""Columns of a request and of its answer."""
PROGRAM = "serve.py"
_PROGRAM = '''"""What `mlflow models serve` runs: the model in this folder, by the installed advseg."""

from pathlib import Path

import mlflow

from advseg.platform.registry.served import Served

mlflow.models.set_model(Served(Path(__file__).parent))
'''
_MLMODEL, _REQUIREMENTS, _ENVIRONMENT, _EXAMPLE = "MLmodel", "requirements.txt", "python_env.yaml", "input_example.json"
_PACKAGES = ("advseg", "mlflow", "numpy", "pillow", "safetensors", "torch")
"""Those that a mask is computed by."""
_SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.binary, IMAGE)]), outputs=Schema([ColSpec(DataType.string, MASK)])
)


def write_serving_files(folder: Path, card: Card) -> None:
    """Write what makes a folder with the model of a card one that MLflow serves."""
    (folder / PROGRAM).write_text(_PROGRAM)
    (folder / _REQUIREMENTS).write_text("".join(f"{line}\n" for line in _requirements(card)))
    environment = {"python": platform.python_version(), "dependencies": [f"-r {_REQUIREMENTS}"]}
    (folder / _ENVIRONMENT).write_text(yaml.safe_dump(environment))
    request = {"columns": [IMAGE], "data": [[_example()]]}
    (folder / _EXAMPLE).write_text(json.dumps(request))
    (folder / f"serving_{_EXAMPLE}").write_text(json.dumps({"dataframe_split": request}))
    model = Model(
        signature=_SIGNATURE,
        saved_input_example_info={
            "artifact_path": _EXAMPLE,
            "serving_input_path": f"serving_{_EXAMPLE}",
            "type": "dataframe",
            "pandas_orient": "split",
        },
    )
    # As `mlflow.pyfunc.add_to_model` would, whose import takes seconds and warns of MLflow's own types.
    model.add_flavor(
        "python_function",
        loader_module="mlflow.pyfunc.loaders.code_model",
        model_code_path=PROGRAM,
        python_version=platform.python_version(),
        env={"virtualenv": _ENVIRONMENT},
    )
    model.save(str(folder / _MLMODEL))


def _requirements(card: Card) -> list[str]:
    """Exact versions, so that MLflow guesses none; where the code came without its package, any."""
    lines = []
    for name in _PACKAGES if card.config is None else (*_PACKAGES, "transformers"):
        try:
            # What follows a plus, as in 2.13.0+cpu, is a build that the package index need not have.
            lines.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            lines.append(name)
    return lines


def _example() -> str:
    """A black image in base64, as small as may be."""
    content = BytesIO()
    Image.new("RGB", (LEAST_SIDE, LEAST_SIDE)).save(content, format="PNG")
    return b64encode(content.getvalue()).decode()
