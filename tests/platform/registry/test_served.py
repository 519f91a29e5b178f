"""A registered model as MLflow loads it, for those who trust their registry; integration/test_serving.py asks it."""

import base64
import io
import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from advseg.jobs.predict import predict
from advseg.models import load
from advseg.models.bundle import read_card, save
from advseg.models.manifest import MANIFEST, BrokenDirectoryError
from advseg.platform.registry.served import Served
from advseg.platform.registry.serving_files import write_serving_files


@pytest.fixture
def folder(model: Path, tmp_path: Path) -> Path:
    """A model with the files by which MLflow serves it."""
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    write_serving_files(folder, read_card(folder))
    return folder


def test_what_serves_a_network_of_transformers_asks_for_them(folder: Path, tmp_path: Path) -> None:
    assert "transformers" not in (folder / "requirements.txt").read_text()
    write_serving_files(tmp_path, replace(read_card(folder), config={"model_type": "dinov2"}))
    assert "\ntransformers==" in (tmp_path / "requirements.txt").read_text()


@pytest.fixture
def served(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model as MLflow loads it, which unpickles nothing for it."""
    import mlflow.pyfunc

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return mlflow.pyfunc.load_model(str(folder))


def photograph(width: int, height: int, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(content, format=kind)
    return content.getvalue()


def test_masks_are_those_that_predict_writes(served: Any, model: Path, tmp_path: Path) -> None:
    images = [photograph(24, 16), photograph(17, 33, "JPEG")]
    paths = [tmp_path / f"{place}.img" for place in range(len(images))]
    for path, content in zip(paths, images, strict=True):
        path.write_bytes(content)
    written = predict(model, [str(path) for path in paths], str(tmp_path / "masks")).masks

    answer = served.predict(pd.DataFrame({"image": images}))

    assert list(answer.columns) == ["mask"]
    assert [base64.b64decode(mask) for mask in answer["mask"]] == [Path(path).read_bytes() for path in written]


def test_a_model_that_was_judged_by_windows_is_served_by_windows(model: Path, tmp_path: Path) -> None:
    loaded = load(model)
    sliding = {"mode": "sliding", "window": [8, 8], "stride": 1.0}
    card = replace(loaded.card, lineage={"spec": {"trainer": {"evaluation": sliding}}})
    save(tmp_path / "model", card, loaded.segmenter.state_dict(), None)
    (tmp_path / "0.png").write_bytes(photograph(24, 16))
    masks = {}
    for path in (tmp_path / "model", model):
        served = Served(path)
        served.load_context(None)
        (mask,) = served.predict(None, pd.DataFrame({"image": [photograph(24, 16)]}))["mask"]
        (written,) = predict(path, [str(tmp_path / "0.png")], str(tmp_path / "masks")).masks
        assert base64.b64decode(mask) == Path(written).read_bytes()
        masks[path] = mask
    assert len(set(masks.values())) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no image", "image 0 is none of PNG, JPEG, TIFF, BMP and WebP: convert it"),
        (b"", "image 0 is empty: replace it"),
        (photograph(7, 30), "image 0 is 7 x 30, but an image must be at least 8 x 8 pixels"),
        (photograph(24, 16)[:-30], "image 0 cannot be decoded"),
    ],
    ids=["text", "nothing", "small", "cut"],
)
def test_what_is_no_image_is_the_clients_mistake(served: Any, content: bytes, message: str) -> None:
    with pytest.raises(MlflowException, match=message) as caught:
        served.predict(pd.DataFrame({"image": [content]}))
    assert caught.value.get_http_status_code() == 400


def test_a_request_without_images_is_refused_by_the_signature(served: Any) -> None:
    with pytest.raises(MlflowException, match=r"missing inputs \['image'\]"):
        served.predict(pd.DataFrame({"picture": [photograph(8, 8)]}))


def test_the_example_shows_how_to_call_it(served: Any, folder: Path) -> None:
    request = json.loads((folder / "serving_input_example.json").read_text())
    assert request["dataframe_split"]["columns"] == ["image"]
    assert [*served.input_example.columns] == ["image"]
    mask = base64.b64decode(served.predict(served.input_example)["mask"][0])
    with Image.open(io.BytesIO(mask)) as found:
        assert (found.size, found.mode) == ((8, 8), "P")


def test_versions_are_exact(folder: Path) -> None:
    lines = (folder / "requirements.txt").read_text().split()
    assert {"advseg", "mlflow", "torch"} <= {line.partition("==")[0] for line in lines}
    assert lines == [
        f"{name}=={version(name).partition('+')[0]}" for name in (line.partition("==")[0] for line in lines)
    ]


def test_a_damaged_model_is_not_served(folder: Path) -> None:
    import mlflow.pyfunc

    (folder / MANIFEST).unlink()
    with pytest.raises(BrokenDirectoryError, match="was never finished"):
        mlflow.pyfunc.load_model(str(folder))


def test_our_own_loader_runs_none_of_it(folder: Path) -> None:
    for name in ("serve.py", "MLmodel"):
        (folder / name).write_text("raise AssertionError('it was run')")
    load(folder)
