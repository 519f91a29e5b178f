import json
import logging
import math
import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advseg.models.manifest import BrokenDirectoryError
from advseg.trainers.checkpoint import TENSORS, load_checkpoint, newest_checkpoint, save_checkpoint

DTYPES = (torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool)

texts = st.text(st.sampled_from("ab./$0"), max_size=4) | st.just("__metadata__")
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text()
tensors = st.builds(
    lambda dtype, shape, seed: (100 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))).to(dtype),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(0, 1000),
)
states = st.dictionaries(
    texts,
    st.recursive(
        scalars | tensors,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def same(one, other) -> bool:
    match one:
        case torch.Tensor():
            return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        case dict():
            return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
        case list():
            return len(one) == len(other) and all(map(same, one, other))
        case _:
            return type(one) is type(other) and one == other


@settings(deadline=None, max_examples=60)
@given(states)
def test_a_state_comes_back_as_it_was(state):
    with tempfile.TemporaryDirectory() as root:
        assert same(state, load_checkpoint(save_checkpoint(Path(root), 1, state)))


def test_a_figure_that_is_not_a_number_comes_back(tmp_path):
    state = load_checkpoint(save_checkpoint(tmp_path, 1, {"a": math.nan, "b": math.inf}))

    assert math.isnan(state["a"])
    assert state["b"] == math.inf


def test_tuples_come_back_as_lists_and_keys_as_text_as_in_json(tmp_path):
    state = {"betas": (0.9, 0.99), "state": {0: {"step": 1}}}

    assert load_checkpoint(save_checkpoint(tmp_path, 1, state)) == {"betas": [0.9, 0.99], "state": {"0": {"step": 1}}}


def test_tensors_whose_paths_read_the_same_stay_apart(tmp_path):
    state = {"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}}

    loaded = load_checkpoint(save_checkpoint(tmp_path, 1, state))

    assert (loaded["a/b"].item(), loaded["a"]["b"].item()) == (0, 1)


def test_nothing_is_pickled(tmp_path):
    path = save_checkpoint(tmp_path, 1, {"weights": torch.ones(2), "step": 1})

    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 2, {"object": object()})


def test_a_tensor_that_is_a_view_is_saved_by_its_values(tmp_path):
    tensor = torch.arange(6).view(2, 3)

    state = load_checkpoint(save_checkpoint(tmp_path, 1, {"turned": tensor.T}))

    assert torch.equal(state["turned"], tensor.T)


def test_the_newest_two_are_kept(tmp_path):
    for step in (5, 10, 100, 1000):
        save_checkpoint(tmp_path, step, {"step": step})

    assert {path.name for path in tmp_path.iterdir()} == {"step-00000100", "step-00001000"}


def test_the_newest_is_found_with_its_state(tmp_path):
    for step in (9, 10):
        save_checkpoint(tmp_path, step, {"step": step})

    assert newest_checkpoint(tmp_path) == (tmp_path / "step-00000010", {"step": 10})


def test_before_the_first_checkpoint_there_is_none(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "absent") is None


def harm(path: Path) -> None:
    content = bytearray((path / TENSORS).read_bytes())
    content[-1] ^= 1
    (path / TENSORS).write_bytes(content)


@pytest.fixture
def two(tmp_path) -> Path:
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"weights": torch.full((4,), float(step))})
    return tmp_path


def test_a_damaged_newest_is_skipped_for_the_one_before_it_with_a_warning(two, caplog):
    harm(two / "step-00000002")

    with caplog.at_level(logging.WARNING):
        found = newest_checkpoint(two)

    assert found
    assert found[0].name == "step-00000001"
    assert found[1]["weights"].tolist() == [1.0] * 4
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "step-00000002" in record.getMessage()
    assert TENSORS in record.getMessage()


def test_when_all_are_damaged_there_is_none(two, caplog):
    for path in two.iterdir():
        harm(path)

    assert newest_checkpoint(two) is None
    assert len(caplog.records) == 2


def test_a_damaged_checkpoint_asked_for_by_name_raises(two):
    harm(two / "step-00000002")

    with pytest.raises(BrokenDirectoryError, match=TENSORS):
        load_checkpoint(two / "step-00000002")


@pytest.mark.parametrize("call", range(4))
def test_a_crash_while_writing_leaves_the_older_ones(two, monkeypatch, call):
    calls = iter(range(100))
    fsync = os.fsync

    def dying(descriptor: int) -> None:
        if next(calls) == call:
            raise KeyboardInterrupt
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", dying)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(two, 3, {"weights": torch.zeros(4)})

    found = newest_checkpoint(two)
    assert found
    # The last call comes after the new one is in its place.
    assert found[0].name == ("step-00000003" if call == 3 else "step-00000002")
    assert {"step-00000001", "step-00000002"} <= {path.name for path in two.iterdir()}
    save_checkpoint(two, 3, {"weights": torch.zeros(4)})
    assert {path.name for path in two.iterdir()} == {"step-00000002", "step-00000003"}


def test_scalars_are_json_that_people_can_read(tmp_path):
    path = save_checkpoint(tmp_path, 7, {"step": 7, "metrics": {"val/miou": 41.5}})

    assert json.loads((path / "state.json").read_text()) == {"step": 7, "metrics": {"val/miou": 41.5}}
