"""Where nothing can be written: one line with the file and what to do, exit status 2, and nothing left of a half."""

import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advseg.platform.pages.html_page import write_page

Command = Callable[..., tuple[int, str, str]]


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files may have so many bytes; writing more fails as on a full disk, with an error that names no file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_pack(advseg: Command, spec: Path, tmp_path: Path) -> None:
    with room_for(1000):
        status, out, err = advseg("data", "pack", spec, "pack")
    assert (status, out) == (2, "")
    assert err == f"error: pack {tmp_path}/pack cannot be written (File too large): make room, or name another folder\n"
    assert left(tmp_path) == []


def test_the_picture_of_a_check(advseg: Command, spec: Path, tmp_path: Path) -> None:
    with room_for(1000):
        status, _, err = advseg("data", "check", spec, "--picture", "samples.png")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: samples.png: File too large: raise the limit")
    assert left(tmp_path) == []


def test_synthetic_data(advseg: Command, tmp_path: Path) -> None:
    with room_for(500):
        status, out, err = advseg("data", "shapes", "shapes")
    assert (status, out) == (2, "")
    assert err == "error: shapes cannot be written (File too large): make room, or name another folder\n"
    assert left(tmp_path) == []


@pytest.fixture
def leaves(tmp_path: Path) -> Path:
    """Images and masks without lists."""
    root = tmp_path / "leaves"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for place, id in enumerate("abc"):
        Image.fromarray(np.full((16, 16, 3), 40 * place, np.uint8)).save(root / "images" / f"{id}.png")
        Image.fromarray(np.eye(16, dtype=np.uint8)).save(root / "masks" / f"{id}.png")
    return root


@pytest.mark.parametrize(("room", "name"), [(100, "classes.yaml"), (1000, "advseg.yaml")])
def test_a_first_spec_leaves_all_its_files_or_none(
    advseg: Command, leaves: Path, room: int, name: str, tmp_path: Path
) -> None:
    before = left(leaves)
    with room_for(room):
        status, out, err = advseg("data", "init", leaves)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {leaves / name}: File too large: ")
    assert left(leaves) == before
    assert advseg("data", "init", leaves)[0] == 0


def test_a_page(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("before")
    with room_for(1000), pytest.raises(OSError) as caught:
        write_page(tmp_path / "page.html", "a" * 10_000)
    assert caught.value.filename == str(tmp_path / "page.html")
    assert left(tmp_path) == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "before"


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("x" * 300, "File name too long: shorten its name"),
        ("file/x", "File exists: remove it, or name another"),
        ("folder", "Is a directory: name a file in it"),
    ],
)
def test_a_place_that_takes_no_file(advseg: Command, spec: Path, place: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    status, _, err = advseg("data", "check", spec, "--picture", place)
    assert (status, err.count("\n")) == (2, 1)
    assert reason in err and ".partial" not in err
    assert left(tmp_path) == ["file", "folder"]


def test_too_many_open_files(advseg: Command, spec: Path, tmp_path: Path) -> None:
    shutil.copy(spec, "spec.yaml")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        status, _, err = advseg("data", "check", "spec.yaml")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (status, err.count("\n")) == (2, 1)
    assert "Too many open files" in err
