"""A registered model answers over HTTP, as somebody asks it who has nothing of ours."""

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Command
from mlflow.tracking import MlflowClient
from ports import choose_ports
from waiting import wait_for

from advseg.models.architectures import IMAGENET, CompactSettings, build_segmenter
from advseg.models.bundle import save
from advseg.models.card import Card
from advseg.platform.registry.registering import register
from advseg.platform.registry.registry import CHAMPION
from advseg.platform.tracking.identity import RunIdentity
from advseg.platform.tracking.runs import ensure_run

pytestmark = pytest.mark.cluster

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
CARD = Card(
    segmenter=CompactSettings(width=8),
    discriminator=None,
    classes=("background", "circle", "square"),
    palette=((0, 0, 0), (128, 0, 0), (0, 128, 0)),
    ignore_index=255,
    normalisation=IMAGENET,
    resize=(24, 40),
)


@pytest.fixture(scope="module")
def registered(mlflow_client: MlflowClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The champion of a registered model."""
    path = tmp_path_factory.mktemp("model") / "model"
    torch.manual_seed(0)
    save(path, CARD, build_segmenter(CARD.segmenter, len(CARD.classes)).state_dict(), None)
    run_id = ensure_run(mlflow_client, RunIdentity(experiment="served", key="served/0"))
    version = register(mlflow_client, path, "served", run_id, "served/0", None, lambda: None).version
    mlflow_client.set_registered_model_alias("served", CHAMPION, version)
    return f"served@{CHAMPION}"


@pytest.fixture(scope="module")
def ask(
    registered: str, mlflow_client: MlflowClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Any], tuple[int, Any]]]:
    """Asks the model that `mlflow models serve` serves: status and answer."""
    (port,) = choose_ports(1)
    folder = tmp_path_factory.mktemp("serving")
    programs = str(Path(sys.executable).parent)
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", f"models:/{registered}"),
                *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
            ],
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": mlflow_client.tracking_uri,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
                "PATH": os.pathsep.join([programs, os.environ["PATH"]]),
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )

    def asked(path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", data=data, headers={"Content-Type": "application/json"}
        )
        try:
            with OPENER.open(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def answers() -> bool:
        assert server.poll() is None, (folder / "log.txt").read_text()
        try:
            return asked("/ping")[0] == 200
        except OSError:
            return False

    try:
        wait_for(answers)
        yield lambda body: asked("/invocations", body)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def test_a_mask_over_http_is_that_of_predict_to_the_bit(
    ask: Callable[[Any], tuple[int, Any]], registered: str, advseg: Command, tiny_shapes: Path, tmp_path: Path
) -> None:
    images = sorted((tiny_shapes / "JPEGImages").iterdir())[:2]
    advseg("predict", registered, *map(str, images), "--to", str(tmp_path / "masks"))

    status, answer = ask(
        {"dataframe_records": [{"image": base64.b64encode(image.read_bytes()).decode()} for image in images]}
    )

    assert status == 200, answer
    masks = [base64.b64decode(row["mask"]) for row in json.loads(answer)["predictions"]]
    assert masks == [(tmp_path / "masks" / f"{image.stem}.png").read_bytes() for image in images]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": base64.b64encode(b"text").decode()}, "image 0 is none of PNG, JPEG, TIFF, BMP and WebP: convert it"),
        ({"picture": ""}, "image"),
        ({"image": 5}, ""),
    ],
)
def test_what_is_no_image_is_answered_by_400(
    ask: Callable[[Any], tuple[int, Any]], row: dict[str, Any], reason: str
) -> None:
    status, answer = ask({"dataframe_records": [row]})
    assert status == 400, answer
    assert reason in answer
