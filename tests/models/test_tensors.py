import resource

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from advseg.models.tensors import save_tensors


def test_tensors_come_back_by_name(tmp_path):
    save_tensors({"a": torch.ones(2)}, tmp_path / "file")

    assert load_file(tmp_path / "file")["a"].tolist() == [1, 1]


def test_a_full_disk_is_told_as_it_is_of_any_file(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            save_tensors({"a": torch.ones(1000)}, tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert caught.value.filename == str(tmp_path / "file")


def test_what_is_no_fault_of_the_disk_stays_what_it_is(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise SafetensorError("invalid shape")

    monkeypatch.setattr("advseg.models.tensors.save_file", refuse)
    with pytest.raises(SafetensorError, match="invalid shape"):
        save_tensors({}, tmp_path / "file")
