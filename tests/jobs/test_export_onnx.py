"""A model as an ONNX file, on the command line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from advseg.models import load
from advseg.models.bundle import save
from advseg.models.manifest import checksum_of

Command = Callable[..., tuple[int, str, str]]


def test_a_file_is_written_that_names_its_model(advseg: Command, model: Path, tmp_path: Path) -> None:
    status, out, err = advseg("models", "export", model, "--to", "new/model.onnx")
    assert (status, out, err) == (0, f"{model} written to new/model.onnx\n", "")
    said = {entry.key: entry.value for entry in onnx.load(tmp_path / "new" / "model.onnx").metadata_props}
    assert (said["reference"], said["digest"]) == ("model", checksum_of(model))
    assert json.loads(said["classes"]) == [*load(model).card.classes]


def test_of_a_model_that_was_judged_by_windows_it_says_that_the_file_has_none(
    advseg: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advseg.jobs.export_onnx.onnx_graph", lambda *_: b"")
    loaded = load(model)
    sliding = {"spec": {"trainer": {"evaluation": {"mode": "sliding", "window": [8, 12]}}}}
    save(
        tmp_path / "model",
        replace(loaded.card, discriminator=None, lineage=sliding),
        loaded.segmenter.state_dict(),
        None,
    )
    out = advseg("models", "export", "model", "--to", "x.onnx")[1]
    assert out.startswith(
        "model written to x.onnx; it reads images whole, but was judged by windows of 8 x 12 pixels: "
    )


class TestNothingIsWritten:
    @pytest.fixture(autouse=True)
    def other(self, tmp_path: Path) -> Path:
        """What was there before."""
        path = tmp_path / "model.onnx"
        path.write_text("mine")
        return path

    def test_where_the_runtime_computes_otherwise(
        self, advseg: Command, model: Path, other: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def differs(*_: object) -> bytes:
            raise ValueError("its logits are off by 1.0e+00")

        monkeypatch.setattr("advseg.jobs.export_onnx.onnx_graph", differs)
        status, _, err = advseg("models", "export", model, "--to", other)
        assert status == 2
        assert err.startswith("error: model cannot be exported (its logits are off by 1.0e+00): install onnxruntime")
        assert other.read_text() == "mine"

    def test_of_what_is_no_model(self, advseg: Command, tmp_path: Path, other: Path) -> None:
        status, _, err = advseg("models", "export", tmp_path, "--to", other)
        assert (status, err.count("\n")) == (2, 1)
        assert "is a folder without model.json, so no model: " in err
        assert other.read_text() == "mine"
