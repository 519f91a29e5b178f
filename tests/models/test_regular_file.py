import os
from collections.abc import Callable
from pathlib import Path

import pytest

from advseg.models import regular_file
from advseg.models.regular_file import read_regular


def test_a_file_is_read_whole_also_through_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "file") == read_regular(tmp_path / "link") == b"abc"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("pipe", "no regular file"),
        ("socket", "no regular file"),
        ("folder", "no regular file"),
        ("device", "no regular file"),
        ("circle", "Too many levels of symbolic links"),
        ("nothing", "No such file or directory"),
    ],
)
def test_anything_else_is_refused_and_not_waited_for(
    put_odd: Callable[[str, Path], None], kind: str, reason: str, tmp_path: Path
) -> None:
    put_odd(kind, tmp_path / "x")
    with pytest.raises(OSError) as caught:
        read_regular(tmp_path / "x")
    assert (caught.value.filename, caught.value.strerror) in ((str(tmp_path / "x"), reason), (tmp_path / "x", reason))


def test_a_name_that_none_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="its name holds a NUL character"):
        read_regular(tmp_path / "a\0b")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OSError, match="it has 1,099,511,627,776 bytes, but at most 1,073,741,824 are read"):
        read_regular(tmp_path / "x")


def test_what_would_have_to_be_waited_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some files of /proc, which count as regular ones."""
    os.mkfifo(tmp_path / "x")
    writing = os.open(tmp_path / "x", os.O_RDWR)
    reading = os.fdopen(os.open(tmp_path / "x", os.O_RDONLY | os.O_NONBLOCK), "rb")
    monkeypatch.setattr(regular_file, "open_regular", lambda _: reading)
    with pytest.raises(OSError, match="it would have to be waited for"):
        read_regular(tmp_path / "x")
    os.close(writing)
