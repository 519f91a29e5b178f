"""What cannot be put in its place is one image's failure, unless it is the disk's."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from advseg.jobs import mask_writer
from advseg.trainers.errors import UserError


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_what_a_disk_refuses_of_all_files_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path, write: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(mask_writer, "add_whole", refuse)
    with pytest.raises(OSError, match=r"a\.png"):
        mask_writer.writer(str(tmp_path), {}, overwrite=False)("a.png", b"", "origin")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_came_in_the_place_of_a_file_is_told(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match=r"a\.png"):
        mask_writer.writer(str(tmp_path), {}, overwrite=overwrite)("a.png", b"", "origin")


def test_a_link_that_came_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="no regular file"):
        mask_writer.writer(str(tmp_path), {}, overwrite=False)("a.png", b"", "origin")
    assert not (tmp_path / "precious").exists()
