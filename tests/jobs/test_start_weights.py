"""`advseg train` from weights in a bucket: what the user sees, and that nothing is asked of the bucket twice."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from moto.server import ThreadedMotoServer

from advseg.models.architectures import CompactSettings, build_segmenter
from advseg.platform.storage.s3_client import AT_ONCE, s3_client


def test_training_says_what_it_starts_from_and_resumes_without_the_bucket(
    advseg: Callable[..., tuple[int, str, str]],
    spec: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def train(folder: str, cache: str) -> tuple[int, str]:
        """The status, and what is told."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        caplog.clear()
        options = ["--set=model.weights=s3://weights/start.pth", "--set=trainer.steps=2"]
        status, _, err = advseg("train", spec, "--to", folder, *options)
        return status, err or "\n".join(caplog.messages)

    torch.save(build_segmenter(CompactSettings(width=8), 6).state_dict(), tmp_path / "start.pth")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        client = s3_client(AT_ONCE)
        client.create_bucket(Bucket="weights")
        client.upload_file(str(tmp_path / "start.pth"), "weights", "start.pth")
        client.close()
        status, told = train("run", "cache")
    finally:
        server.stop()

    assert status == 0
    (line,) = [line for line in told.splitlines() if line.startswith("weights ")]
    assert line.endswith("start.pth: 37 of 37 tensors matched (17,912 values)")

    status, told = train("run", "cache")

    assert status == 0
    assert "resumed from" in told
    status, told = train("other", "another cache")
    assert status == 2
    assert told.startswith("error: weights s3://weights/start.pth cannot be fetched: the storage does not")
    assert told.count("\n") == 1
