import errno
import json
import logging
import math
import os
import resource
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advseg.models import manifest
from advseg.models.manifest import FORMAT_VERSION, MANIFEST, BrokenDirectoryError
from advseg.trainers import checkpoint
from advseg.trainers.checkpoint import (
    SCALARS,
    TENSORS,
    load_checkpoint,
    load_scalars,
    newest_checkpoint,
    newest_sealed,
    save_checkpoint,
)
from advseg.trainers.errors import CheckpointError

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


def test_the_newest_is_the_one_of_the_highest_step_also_beyond_eight_digits(tmp_path):
    for step in (99_999_998, 99_999_999, 100_000_000):
        save_checkpoint(tmp_path, step, {"step": step})

    assert newest_checkpoint(tmp_path) == (tmp_path / "step-100000000", {"step": 100_000_000})
    assert {path.name for path in tmp_path.iterdir()} == {"step-99999999", "step-100000000"}


def test_what_only_looks_like_a_checkpoint_is_left_alone(tmp_path):
    (tmp_path / "step-00000003-backup").mkdir()
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"step": step})

    assert newest_checkpoint(tmp_path) == (tmp_path / "step-00000003", {"step": 3})
    assert (tmp_path / "step-00000003-backup").is_dir()


def save_often(root: Path, first: int) -> None:
    for step in range(first, 90, 3):
        save_checkpoint(root, step, {"step": step, "weights": torch.full((100,), float(step))})


def read_often(root: Path) -> None:
    for _ in range(60):
        if found := newest_checkpoint(root):
            assert found[1]["weights"].tolist() == [found[1]["step"]] * 100


@pytest.mark.parametrize("firsts", [(1, 2, 3), (1, 1, 1)], ids=["of other steps", "of the same steps"])
def test_several_writers_may_save_to_the_same_root(tmp_path, firsts):
    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(save_often, tmp_path, first) for first in firsts]
        working.append(pool.submit(read_often, tmp_path))
        for each in working:
            each.result()

    found = newest_checkpoint(tmp_path)
    assert found
    assert found[1]["step"] == max(step for first in firsts for step in range(first, 90, 3))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("file", ["state.json", "state.safetensors"])
def test_one_that_is_removed_once_it_was_verified_is_passed_over(two, monkeypatch, file):
    verify = checkpoint.verify_directory

    def verified_last(path, **options):
        verify(path, **options)
        if path.name == "step-00000002":
            (path / file).unlink()

    monkeypatch.setattr(checkpoint, "verify_directory", verified_last)
    found = newest_checkpoint(two)
    assert found
    assert found[0].name == "step-00000001"


def test_an_older_one_is_taken_away_at_once(two, monkeypatch):
    """Half of one would count as damaged."""
    removed, remove = [], shutil.rmtree

    def watched(path, **options):
        removed.append(path)
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", watched)
    save_checkpoint(two, 3, {"step": 3})
    assert {path.name for path in two.iterdir()} == {"step-00000002", "step-00000003"}
    assert removed
    assert all(path.name.startswith(".") for path in removed)


def test_what_another_process_is_writing_is_left_to_it(tmp_path):
    other = tmp_path / ".step-00000001.elsewhere-1.partial"
    other.mkdir()

    save_checkpoint(tmp_path, 1, {"step": 1})

    assert other.is_dir()


def test_a_full_disk_is_told_in_a_line_and_leaves_the_older_ones_alone(two):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            save_checkpoint(two, 3, {"weights": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert caught.value.errno == errno.EFBIG
    assert "\n" not in str(caught.value)
    assert {path.name for path in two.iterdir()} == {"step-00000001", "step-00000002"}
    found = newest_checkpoint(two)
    assert found and found[0].name == "step-00000002"


def test_a_checkpoint_that_is_removed_while_it_is_read_gives_way_to_newer_ones(two):
    def load(path: Path) -> dict:
        if path.name == "step-00000002":
            for step in (3, 4):
                save_checkpoint(two, step, {"weights": torch.full((4,), float(step))})
        return load_checkpoint(path)

    found = newest_checkpoint(two, load)

    assert found
    assert found[0].name == "step-00000004"


def test_a_run_that_went_back_past_damaged_checkpoints_keeps_what_it_saves(tmp_path):
    for step in (5, 6):
        harm(save_checkpoint(tmp_path, step, {"weights": torch.zeros(1)}))

    for step in (2, 3, 4):
        save_checkpoint(tmp_path, step, {"weights": torch.zeros(1)})

    found = newest_checkpoint(tmp_path)
    assert found
    assert found[0].name == "step-00000004"
    assert (tmp_path / "step-00000003").is_dir()


def test_the_scalars_are_read_without_the_tensors(two, monkeypatch):
    save_checkpoint(two, 3, {"step": 3, "weights": torch.zeros(4)})
    monkeypatch.setattr(checkpoint, "load_file", lambda path: pytest.fail("it read the tensors"))

    found = newest_checkpoint(two, load_scalars)

    assert found
    assert found[1]["step"] == 3


def test_the_scalars_of_a_checkpoint_with_damaged_tensors_are_not_believed(two):
    harm(two / "step-00000002")

    with pytest.raises(BrokenDirectoryError, match=TENSORS):
        load_scalars(two / "step-00000002")


def test_tensors_that_the_manifest_does_not_list_are_not_believed(two):
    tensors = (two / "step-00000002" / TENSORS).read_bytes()
    scalars = (two / "step-00000002" / SCALARS).read_bytes()
    manifest.write_directory(two / "step-00000002", lambda path: (path / SCALARS).write_bytes(scalars) and None)
    (two / "step-00000002" / TENSORS).write_bytes(tensors)

    with pytest.raises(BrokenDirectoryError, match=f"does not hold {TENSORS}"):
        load_checkpoint(two / "step-00000002")


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


def test_when_all_are_damaged_nothing_starts_over_unasked(two, caplog):
    for path in two.iterdir():
        harm(path)

    with pytest.raises(CheckpointError) as caught:
        newest_checkpoint(two)

    assert f"no checkpoint in {two} is whole" in str(caught.value)
    assert "step-00000002" in str(caught.value)
    assert f"remove {two} to start from step 0" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(caplog.records) == 2


def test_another_format_version_is_refused_and_not_skipped_like_damage(two, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT_VERSION", 99)
        save_checkpoint(two, 3, {"weights": torch.zeros(4)})

    with pytest.raises(CheckpointError) as caught:
        newest_checkpoint(two)

    assert f"step-00000003 has format version 99, but this program reads {FORMAT_VERSION}: " in str(caught.value)
    assert "the version of advseg that wrote it" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damage_to_the_version_number_is_passed_over_like_any_other(two, caplog):
    path = two / "step-00000002" / MANIFEST
    path.write_text(path.read_text().replace(f'"format_version": {FORMAT_VERSION}', '"format_version": 6'))

    found = newest_checkpoint(two)

    assert found
    assert found[0].name == "step-00000001"
    assert "step-00000002" in caplog.text


@dataclass(frozen=True)
class Damage:
    """One harm to one file of a checkpoint, done by bytes."""

    file: str
    kind: str
    at: float
    """Where in the file, from 0 to 1."""
    bits: frozenset[int] = frozenset()
    """Distances of the bits that flip, from there on."""

    def do(self, checkpoint: Path, other: Path) -> None:
        path = checkpoint / self.file
        content = bytearray(path.read_bytes())
        match self.kind:
            case "truncated":
                path.write_bytes(content[: int(self.at * len(content))])
            case "flipped bits":
                for bit in self.bits:
                    place = (int(self.at * len(content) * 8) + bit) % (len(content) * 8)
                    content[place // 8] ^= 1 << place % 8
                path.write_bytes(content)
            case "overwritten with zeros":
                start = int(self.at * len(content))
                path.write_bytes(content[:start] + bytes(len(content) - start))
            case "grown":
                path.write_bytes(content + b"\0" * (1 + int(self.at * 5000)))
            case "empty":
                path.write_bytes(b"")
            case "missing":
                path.unlink()
            case "a folder":
                path.unlink()
                path.mkdir()
            case "of another checkpoint":
                path.write_bytes((other / self.file).read_bytes())


KINDS = (
    "truncated",
    "flipped bits",
    "overwritten with zeros",
    "grown",
    "empty",
    "missing",
    "a folder",
    "of another checkpoint",
)
damages = st.builds(
    Damage,
    st.sampled_from((TENSORS, SCALARS, MANIFEST)),
    st.sampled_from(KINDS),
    st.floats(0, 1, exclude_max=True),
    st.frozensets(st.integers(0, 200), min_size=1, max_size=8),
)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damages)
def test_a_damaged_checkpoint_is_found_told_and_passed_over_for_the_one_before(sealed_two, tmp_path, caplog, damage):
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    shutil.copytree(sealed_two, root, dirs_exist_ok=True)
    damage.do(root / "step-00000003", root / "step-00000002")
    caplog.clear()

    found = newest_checkpoint(root)

    assert found
    assert found[0].name == "step-00000002"
    assert same(found[1], state_at(2))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "step-00000003" in record.getMessage()


def state_at(step: int) -> dict:
    """A small state of a run: both networks' weights, and scalars."""
    weights = {name: torch.full((3, 5), float(step)) for name in ("segmenter", "discriminator")}
    return {"step": step, "metrics": {"val/miou": step / 7}, "method": weights}


@pytest.fixture(scope="module")
def sealed_two(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    for step in (2, 3):
        save_checkpoint(root, step, state_at(step))
    return root


def test_a_damaged_checkpoint_asked_for_by_name_raises(two):
    harm(two / "step-00000002")

    with pytest.raises(BrokenDirectoryError, match=TENSORS):
        load_checkpoint(two / "step-00000002")


@pytest.mark.parametrize("call", range(5))
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
    assert found[0].name == ("step-00000003" if call == 4 else "step-00000002")
    assert {"step-00000001", "step-00000002"} <= {path.name for path in two.iterdir()}
    save_checkpoint(two, 3, {"weights": torch.zeros(4)})
    assert {path.name for path in two.iterdir()} == {"step-00000002", "step-00000003"}


def test_scalars_are_json_that_people_can_read(tmp_path):
    path = save_checkpoint(tmp_path, 7, {"step": 7, "metrics": {"val/miou": 41.5}})

    assert json.loads((path / "state.json").read_text()) == {"step": 7, "metrics": {"val/miou": 41.5}}


class TestNewestSealed:
    def test_is_found_by_its_manifest_alone(self, two):
        harm(two / "step-00000002")

        assert newest_sealed(two) == (2, two / "step-00000002")

    def test_is_the_one_before_one_that_is_not_sealed(self, two):
        (two / "step-00000002" / MANIFEST).unlink()

        assert newest_sealed(two) == (1, two / "step-00000001")

    def test_is_none_before_the_first(self, tmp_path):
        assert newest_sealed(tmp_path) is None
        assert newest_sealed(tmp_path / "absent") is None
