"""`advseg train` from weights in a bucket: what the user sees, and that nothing is asked of the bucket twice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from moto.server import ThreadedMotoServer

from advseg.models.architectures import CompactSettings, build_segmenter
from advseg.platform.storage.s3_client import AT_ONCE, s3_client


def train(spec: Path, folder: Path, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "advseg.jobs.cli", "train", str(spec), "--to", str(folder)]
    command += ["--set=model.weights=s3://weights/start.pth", "--set=trainer.steps=2"]
    environment = {**os.environ, "ADVSEG_HOME": str(home), "XDG_CACHE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_training_says_what_it_starts_from_and_resumes_without_the_bucket(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        first = train(spec, tmp_path / "run", tmp_path / "home")
    finally:
        server.stop()

    assert first.returncode == 0, first.stderr
    (line,) = [line for line in first.stderr.splitlines() if line.startswith("weights ")]
    assert line.endswith("start.pth: 37 of 37 tensors matched (17,912 values)")

    again = train(spec, tmp_path / "run", tmp_path / "home")

    assert again.returncode == 0, again.stderr
    assert "resumed from" in again.stderr
    elsewhere = train(spec, tmp_path / "other", tmp_path / "another home")
    assert elsewhere.returncode == 2
    assert elsewhere.stderr.startswith("error: weights s3://weights/start.pth cannot be fetched: the storage does not")
    assert elsewhere.stderr.count("\n") == 1
