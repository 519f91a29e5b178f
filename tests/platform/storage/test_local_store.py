"""What is a folder's own among stores."""

import os

import pytest

from advseg.models.manifest import BrokenDirectoryError
from advseg.platform.storage.local_store import LocalStore
from advseg.platform.storage.store import MissingKeyError


def test_a_folder_that_lies_in_its_place_is_not_copied(sealed, tmp_path):
    folder = sealed("runs/1", a=b"1")
    before = folder.stat().st_ino, (folder / "a").stat().st_ino

    LocalStore(tmp_path).put(folder, "runs/1")
    LocalStore(tmp_path).get("runs/1", folder)

    assert before == (folder.stat().st_ino, (folder / "a").stat().st_ino)


def test_a_folder_that_lies_in_its_place_is_verified(sealed, tmp_path):
    folder = sealed("x", a=b"1")
    (folder / "a").write_bytes(b"2")

    with pytest.raises(BrokenDirectoryError, match="a differs from its checksum"):
        LocalStore(tmp_path).get("x", folder)
    with pytest.raises(MissingKeyError):
        LocalStore(tmp_path).get("y", tmp_path / "y")


def test_what_is_being_written_is_no_key(sealed, tmp_path):
    (tmp_path / "x" / ".a.host-12.partial" / "new").mkdir(parents=True)
    (tmp_path / "x" / ".a.host-12.partial" / "new" / "b").write_bytes(b"half")
    (tmp_path / "x" / ".c.12.partial").write_bytes(b"half")
    (tmp_path / "x" / ".d").write_bytes(b"whole")

    assert LocalStore(tmp_path).keys() == ["x/.d"]


@pytest.mark.parametrize("name", ["a\nb", os.fsdecode(b"\xff")])
def test_what_others_have_put_there_under_a_name_that_is_no_key_is_none(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "c").touch()
    (tmp_path / "d").touch()

    assert LocalStore(tmp_path).keys() == ["d"]


def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(tmp_path, monkeypatch):
    (tmp_path / "x").mkdir()

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(PermissionError):
        LocalStore(tmp_path).keys("x")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_keeps_no_reader(sealed, tmp_path, put_odd, kind):
    folder = sealed("x", a=b"1")
    put_odd(kind, folder / "a")

    with pytest.raises(OSError, match="no regular file"):
        LocalStore(tmp_path).read("x/a")
    with pytest.raises(OSError, match="no regular file"):
        LocalStore(tmp_path).get("x", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
