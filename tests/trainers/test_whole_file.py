import errno
import os
import resource
import threading
from pathlib import Path

import pytest

from advseg.trainers.whole_file import add_whole, drop_partials, replace_whole, write_whole


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path, durable: bool) -> None:
    for text in ("old", "new"):
        write_whole(tmp_path / "a.json", text, durable=durable)
    assert (tmp_path / "a.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_name_may_be_as_long_as_a_name_can_be(tmp_path: Path) -> None:
    write_whole(tmp_path / ("a" * 255), "new")
    assert (tmp_path / ("a" * 255)).read_text() == "new"


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_file_is_added_where_none_is_and_nothing_else_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = tmp_path / "a.json"
    add_whole(path, lambda partial: partial.write_text("first"))
    with pytest.raises(FileExistsError) as caught:
        add_whole(path, lambda partial: partial.write_text("second"))
    assert str(caught.value).endswith(f"'{path}'")
    assert path.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_file_that_fails_to_be_written_stays_as_it_was(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "old")

    def half(partial: Path) -> None:
        partial.write_text("ha")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        replace_whole(tmp_path / "a.json", half)
    assert (tmp_path / "a.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_writers_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    texts = [str(number) * 10_000 for number in range(4)]
    errors: list[Exception] = []

    def write(text: str) -> None:
        try:
            for _ in range(50):
                write_whole(tmp_path / "a.json", text)
                assert (tmp_path / "a.json").read_text() in texts
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_whole(tmp_path / "a.json", "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).endswith(f"'{tmp_path / 'a.json'}'")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_get_its_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.json" / "inner").mkdir(parents=True)

    with pytest.raises(OSError, match="directory"):
        write_whole(tmp_path / "a.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_no_two_writers_share_a_name_whatever_their_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In two containers, or on two machines, all may have the same number.
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(threading, "get_ident", lambda: 1)
    names: list[str] = []

    def write(partial: Path) -> None:
        names.append(partial.name)
        partial.touch()

    for _ in range(2):
        replace_whole(tmp_path / "a.json", write)
    assert len(set(names)) == 2


def test_what_killed_writers_left_is_dropped_and_nothing_else(tmp_path: Path) -> None:
    def kept() -> list[str]:
        return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))

    (tmp_path / "inner").mkdir()
    for name in ("a.json", "inner/.hidden", "inner/b.partial"):
        (tmp_path / name).touch()
    before = kept()
    (tmp_path / "inner" / ".step-1.x.partial" / "new" / ".deep.x.partial").mkdir(parents=True)
    (tmp_path / ".a.json.0123.partial").touch()

    drop_partials(tmp_path)

    assert kept() == before
