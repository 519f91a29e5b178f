"""A dataset is read once a machine, and again as soon as anything may have changed."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from advseg.trainers.data import known_digests, opening
from advseg.trainers.data.dataset import DatasetError, DatasetSettings
from advseg.trainers.data.notes import few_note
from advseg.trainers.data.opening import open_dataset


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where digests are kept; what has changed a moment ago counts as settled."""
    folder = tmp_path / "digests"
    monkeypatch.setattr(known_digests, "_folder", lambda: folder)
    monkeypatch.setattr(known_digests, "_TICK_NS", 0)
    return folder


@pytest.fixture
def settings(voc_tree: Path) -> DatasetSettings:
    return DatasetSettings(root=voc_tree, labelled="train", unlabelled="train_aug")


@pytest.fixture
def times_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[DatasetSettings], int]:
    """Open a dataset; how often all its files were read for it."""
    reads: list[int] = []
    read = opening._read
    monkeypatch.setattr(opening, "_read", lambda *arguments: reads.append(1) or read(*arguments))

    def times(settings: DatasetSettings) -> int:
        reads.clear()
        open_dataset(settings)
        return len(reads)

    return times


def first(settings: DatasetSettings) -> Path:
    return open_dataset(settings).labelled[0].image  # pyright: ignore[reportAttributeAccessIssue]


def test_is_read_once(kept: Path, settings: DatasetSettings, times_read: Callable[[DatasetSettings], int]) -> None:
    assert times_read(settings) == 1
    whole = open_dataset(settings)
    assert times_read(settings) == 0
    assert open_dataset(settings) == whole
    assert few_note(len(whole.validation)) in whole.notes


def test_with_other_lists_is_another(
    kept: Path, settings: DatasetSettings, times_read: Callable[[DatasetSettings], int]
) -> None:
    times_read(settings)
    assert times_read(replace(settings, unlabelled=None)) == 1
    with pytest.raises(DatasetError, match="holds class id 255"):
        open_dataset(replace(settings, ignore_index=9))


@pytest.mark.parametrize("backdated", [False, True], ids=["now", "with the time of before"])
def test_is_read_again_when_a_file_has_changed_though_its_size_has_not(
    kept: Path, settings: DatasetSettings, times_read: Callable[[DatasetSettings], int], backdated: bool
) -> None:
    path, before = first(settings), open_dataset(settings).digest
    was = path.stat()
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # in the last pixels
    path.write_bytes(content)
    if backdated:
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert path.stat().st_size == was.st_size
    assert times_read(settings) == 1
    assert open_dataset(settings).digest != before


def test_that_has_become_damaged_is_told(kept: Path, settings: DatasetSettings) -> None:
    path = first(settings)
    path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=path.name):
        open_dataset(settings)
    assert times_kept(kept) == 1  # that of before


def times_kept(folder: Path) -> int:
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_that_has_changed_just_now_is_not_taken_for_known(
    kept: Path, settings: DatasetSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_digests, "_TICK_NS", 3600 * 10**9)
    open_dataset(settings)
    assert times_kept(kept) == 0


def test_a_folder_that_others_can_write_to_proves_nothing(
    kept: Path, settings: DatasetSettings, times_read: Callable[[DatasetSettings], int]
) -> None:
    times_read(settings)
    kept.chmod(0o777)
    assert times_read(settings) == 1


@pytest.mark.parametrize("content", ["", "digest\nid", "[]", '{"digest": "x"}'])
def test_what_is_no_record_is_written_anew(
    kept: Path, settings: DatasetSettings, times_read: Callable[[DatasetSettings], int], content: str
) -> None:
    times_read(settings)
    (record,) = kept.iterdir()
    record.write_text(content)
    assert (times_read(settings), times_read(settings)) == (1, 0)


def test_without_a_place_to_keep_it_a_dataset_is_read(
    kept: Path, settings: DatasetSettings, times_read: Callable[[DatasetSettings], int]
) -> None:
    kept.write_text("a file")
    assert (times_read(settings), times_read(settings)) == (1, 1)


def test_masks_that_are_not_used_are_not_the_next_time_either(
    kept: Path, settings: DatasetSettings, times_read: Callable[[DatasetSettings], int]
) -> None:
    mask = open_dataset(settings).unlabelled[0].mask  # pyright: ignore[reportAttributeAccessIssue]
    mask.write_bytes(b"no image")

    assert times_read(settings) == 1
    assert times_read(settings) == 0
    assert [sample.has_mask for sample in open_dataset(settings).unlabelled] == [False, True, True, True]
