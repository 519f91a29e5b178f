import hashlib
import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advseg.models import manifest
from advseg.models.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    BrokenDirectoryError,
    FormatVersionError,
    checksum_of,
    verify_directory,
    write_directory,
)


class PowerCut(BaseException):
    """No code of the program runs any more."""


@pytest.fixture
def sealed(tmp_path) -> Path:
    path = tmp_path / "parent" / "sealed"
    write_directory(path, writer("one"))
    return path


def writer(text: str) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        (directory / "inner").mkdir()
        (directory / "a.txt").write_text(text)
        (directory / "inner" / "b.bin").write_bytes(text.encode() * 100)

    return write


def test_what_was_written_is_whole(sealed):
    verify_directory(sealed)

    assert (sealed / "a.txt").read_text() == "one"
    assert set(json.loads((sealed / MANIFEST).read_text())["files"]) == {"a.txt", "inner/b.bin"}
    assert [path.name for path in sealed.parent.iterdir()] == ["sealed"]


def test_a_new_directory_replaces_the_one_before(sealed):
    write_directory(sealed, lambda directory: (directory / "c.txt").write_text("two") and None)

    verify_directory(sealed)
    assert {path.name for path in sealed.iterdir()} == {"c.txt", MANIFEST}
    assert [path.name for path in sealed.parent.iterdir()] == ["sealed"]


def edit_manifest(path: Path, **changes: object) -> None:
    manifest = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps({**manifest, **changes}))


def truncate(path: Path) -> None:
    (path / "inner" / "b.bin").write_bytes((path / "inner" / "b.bin").read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    content = bytearray((path / "inner" / "b.bin").read_bytes())
    content[17] ^= 1
    (path / "inner" / "b.bin").write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no manifest": (lambda path: (path / MANIFEST).unlink(), MANIFEST),
    "truncated file": (truncate, "b.bin differs"),
    "flipped bit": (flip_a_bit, "b.bin differs"),
    "missing file": (lambda path: (path / "a.txt").unlink(), "lacks a.txt"),
    "edited format version": (lambda path: edit_manifest(path, format_version=99), "differs from its own checksum"),
    "edited list of files": (lambda path: edit_manifest(path, files={}), "differs from its own checksum"),
    "manifest without checksum": (
        lambda path: (path / MANIFEST).write_text('{"format_version": 2, "files": {}}'),
        MANIFEST,
    ),
    "folder for a manifest": (lambda path: (path / MANIFEST).unlink() or (path / MANIFEST).mkdir(), MANIFEST),
    "garbage for a manifest": (lambda path: (path / MANIFEST).write_text("{]"), MANIFEST),
    "bytes for a manifest": (lambda path: (path / MANIFEST).write_bytes(b"\xff\xfe\x00"), MANIFEST),
    "empty manifest": (lambda path: (path / MANIFEST).write_text(""), MANIFEST),
    "manifest of another shape": (lambda path: (path / MANIFEST).write_text("[1]"), MANIFEST),
    "manifest without files": (lambda path: (path / MANIFEST).write_text('{"format_version": 1}'), MANIFEST),
    "deep manifest": (lambda path: (path / MANIFEST).write_text("[" * 100_000), "nested deeper than"),
    "files that are no table": (lambda path: edit_manifest(path, files=7), MANIFEST),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_named(sealed, damage):
    harm, message = DAMAGES[damage]
    harm(sealed)

    with pytest.raises(BrokenDirectoryError, match=message) as caught:
        verify_directory(sealed)

    assert str(sealed) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, FormatVersionError)


def test_damage_is_looked_for_in_the_files_that_are_asked_for_only(sealed):
    flip_a_bit(sealed)

    verify_directory(sealed, only=["a.txt"])

    with pytest.raises(BrokenDirectoryError, match=r"b\.bin differs"):
        verify_directory(sealed, only=["inner/b.bin"])


def test_a_file_that_is_asked_for_has_to_be_in_the_manifest(sealed):
    (sealed / "c.txt").write_text("more")

    with pytest.raises(BrokenDirectoryError, match=r"does not hold c\.txt: its MANIFEST\.json does not list it"):
        verify_directory(sealed, only=["c.txt"])


def test_a_file_that_is_needed_has_to_be_in_the_manifest(sealed):
    """A manifest that names nothing vouches for nothing."""
    sealed_by(sealed, FORMAT_VERSION, {})
    verify_directory(sealed)

    with pytest.raises(BrokenDirectoryError, match=r"does not hold a\.txt: its MANIFEST\.json does not list it"):
        verify_directory(sealed, needs=["a.txt"])


def test_all_files_are_verified_beside_those_that_are_needed(sealed):
    flip_a_bit(sealed)

    with pytest.raises(BrokenDirectoryError, match=r"b\.bin differs"):
        verify_directory(sealed, needs=["a.txt"])


def sealed_by(path: Path, version: Any, files: Any) -> None:
    """Give a directory a manifest that is whole and says what it likes."""
    manifest = {"format_version": version, "files": files, "checksum": checksum(version, files)}
    (path / MANIFEST).write_text(json.dumps(manifest))


def checksum(version: Any, files: Any) -> str:
    return hashlib.sha256(json.dumps([version, files], sort_keys=True).encode()).hexdigest()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["/etc/hostname", "../outside.txt", "inner/../a.txt", "./a.txt", "", "a\0b", "a\nb"])
def test_a_name_that_is_not_plain_and_relative_is_refused_before_it_is_opened(sealed, name):
    (sealed.parent / "outside.txt").write_text("one")
    sealed_by(sealed, FORMAT_VERSION, {"a.txt": digest(sealed / "a.txt"), name: digest(sealed / "a.txt")})

    with pytest.raises(BrokenDirectoryError, match="no plain name inside the folder") as caught:
        verify_directory(sealed, only=["a.txt"])

    assert "\n" not in str(caught.value)


def test_a_link_out_of_the_directory_is_refused_though_its_content_is_right(sealed):
    content = (sealed / "a.txt").rename(sealed.parent / "outside.txt")
    (sealed / "a.txt").symlink_to(content)

    with pytest.raises(BrokenDirectoryError, match=r"a\.txt is a link out of its folder"):
        verify_directory(sealed)


def test_a_folder_that_leads_out_of_the_directory_is_refused(sealed):
    (sealed / "inner").rename(sealed.parent / "outside")
    (sealed / "inner").symlink_to("../outside")

    with pytest.raises(BrokenDirectoryError, match=r"b\.bin is a link out of its folder"):
        verify_directory(sealed)


def test_a_manifest_that_is_a_link_out_of_the_directory_is_refused(sealed):
    (sealed / MANIFEST).rename(sealed.parent / "outside.json")
    (sealed / MANIFEST).symlink_to("../outside.json")

    with pytest.raises(BrokenDirectoryError, match="is a link out of its folder"):
        verify_directory(sealed)


def test_links_within_the_directory_and_to_it_are_followed(sealed):
    (sealed / "a.txt").rename(sealed / "inner" / "real.txt")
    (sealed / "a.txt").symlink_to("inner/real.txt")
    (sealed.parent / "link").symlink_to("sealed")

    verify_directory(sealed.parent / "link")


@pytest.mark.parametrize("place", ["a.txt", MANIFEST])
@pytest.mark.parametrize("what", ["pipe", "device", "loop"])
def test_what_is_no_regular_file_is_refused_at_once(sealed, place, what):
    (sealed / place).unlink()
    match what:
        case "pipe":
            os.mkfifo(sealed / place)
        case "device":
            (sealed / place).symlink_to("/dev/zero")
        case "loop":
            (sealed / place).symlink_to(place)

    with pytest.raises(BrokenDirectoryError, match=r"no regular file|link out of its folder|symbolic links"):
        verify_directory(sealed)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([10**400, FORMAT_VERSION]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.just("a.txt"), inner, max_size=3),
    max_leaves=6,
)


@given(version=ANY, files=ANY)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_manifest_that_says_anything_is_told_in_one_line(sealed, version, files):
    sealed_by(sealed, version, files)
    refused_in_one_line(sealed)


@given(manifest=ANY)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_manifest_that_is_anything_is_told_in_one_line(sealed, manifest):
    (sealed / MANIFEST).write_text(json.dumps(manifest))
    refused_in_one_line(sealed)


def refused_in_one_line(path: Path) -> None:
    with pytest.raises(BrokenDirectoryError) as caught:
        verify_directory(path, needs=["a.txt"])
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600


def test_another_format_version_is_told_from_damage(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT_VERSION", 99)
        write_directory(tmp_path / "newer", writer("new"))

    with pytest.raises(
        FormatVersionError, match=f"newer has format version 99, but this program reads {FORMAT_VERSION}"
    ):
        verify_directory(tmp_path / "newer")


def test_a_file_in_the_place_of_a_directory_is_broken(tmp_path):
    (tmp_path / "file").write_text("no directory")

    with pytest.raises(BrokenDirectoryError, match="file"):
        verify_directory(tmp_path / "file")


def test_an_error_while_writing_leaves_the_directory_as_it_was(sealed):
    def fail(directory: Path) -> None:
        (directory / "a.txt").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_directory(sealed, fail)

    verify_directory(sealed)
    assert (sealed / "a.txt").read_text() == "one"


def test_an_error_while_writing_leaves_no_new_directory(tmp_path):
    def fail(directory: Path) -> None:
        (directory / "a.txt").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_directory(tmp_path / "new", fail)

    assert not list(tmp_path.iterdir())


def cut_power_at(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Let the process die at some call to the file system, counted from 0."""
    calls = iter(range(10**6))

    def dying(function: Callable) -> Callable:
        def run(*args, **kwargs):
            if next(calls) >= call:
                raise PowerCut
            return function(*args, **kwargs)

        return run

    for name in ("mkdir", "unlink", "rmdir", "rename", "fsync"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))


def left_by_crashes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `old` was replaced by when the power was cut at the first, second, ... call while `new` was written."""
    left = []
    for call in range(1000):
        path = folder / str(call) / "sealed"
        write_directory(path, writer("old"))
        try:
            with monkeypatch.context() as patch:
                cut_power_at(patch, call)
                write_directory(path, writer("new"))
        except PowerCut:
            pass
        else:
            break
        if path.exists():
            verify_directory(path)
            left.append((path / "a.txt").read_text())
        else:
            left.append("none")
        write_directory(path, writer("after"))
        verify_directory(path)
        assert [entry.name for entry in path.parent.iterdir()] == ["sealed"]
    return left


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two directories")
def test_a_crash_at_any_moment_leaves_the_old_directory_or_the_new_one(tmp_path, monkeypatch):
    left = left_by_crashes(tmp_path, monkeypatch)

    assert left == sorted(left, reverse=True)
    assert set(left) == {"old", "new"}


def test_without_an_exchange_of_directories_there_is_one_moment_that_leaves_neither(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "_exchange", lambda one, other: False)

    left = left_by_crashes(tmp_path, monkeypatch)

    assert left[0] == "old"
    assert left[-1] == "new"
    assert left.count("none") == 1


@pytest.mark.parametrize("swaps", [True, False], ids=["exchanging", "renaming"])
def test_several_writers_may_write_the_same_directory(tmp_path, monkeypatch, swaps):
    if not swaps:
        monkeypatch.setattr(manifest, "_exchange", lambda one, other: False)

    def write_often(name: str) -> None:
        for _ in range(60):
            write_directory(tmp_path / "a", writer(name))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write_often, ("one", "two", "three")))

    verify_directory(tmp_path / "a")
    assert (tmp_path / "a" / "a.txt").read_text() in ("one", "two", "three")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("step", ["file_digest", "flush_to_disk", "_put"])
def test_an_error_after_the_writing_leaves_nothing_either(sealed, monkeypatch, step):
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(manifest, step, fail)
    with pytest.raises(OSError, match="disk full"):
        write_directory(sealed, writer("two"))
    monkeypatch.undo()

    verify_directory(sealed)
    assert (sealed / "a.txt").read_text() == "one"
    assert [path.name for path in sealed.parent.iterdir()] == ["sealed"]


def test_a_file_of_that_name_is_not_replaced(tmp_path):
    (tmp_path / "file").write_text("precious")

    with pytest.raises(NotADirectoryError):
        write_directory(tmp_path / "file", writer("new"))

    assert (tmp_path / "file").read_text() == "precious"


def test_all_that_was_written_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    flushed, rename = set(), os.rename
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.add(os.fstat(descriptor).st_ino))
    seen = []

    def renaming(source, target):
        entries = [Path(source), *Path(source).rglob("*")]
        seen.append({entry.stat().st_ino for entry in entries} <= flushed)
        rename(source, target)

    monkeypatch.setattr(os, "rename", renaming)
    write_directory(tmp_path / "new", writer("new"))

    assert seen == [True]


def test_the_checksum_of_a_manifest_stands_for_all_that_it_names(sealed: Path) -> None:
    before = checksum_of(sealed)
    assert before and len(before) == 64
    write_directory(sealed, writer("two"))
    assert checksum_of(sealed) not in (None, before)
    (sealed / MANIFEST).write_text("{")
    assert checksum_of(sealed) is None
    assert checksum_of(sealed / "nowhere") is None


def test_a_directory_that_is_not_there_is_told_from_one_that_was_never_finished(tmp_path):
    with pytest.raises(BrokenDirectoryError, match=r"gone is not there$"):
        verify_directory(tmp_path / "gone")
    (tmp_path / "begun").mkdir()
    with pytest.raises(BrokenDirectoryError, match=r"it was never finished$"):
        verify_directory(tmp_path / "begun")
