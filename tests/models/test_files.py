import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.models.files import MAX_DEPTH, MAX_DOCUMENT_MIB, is_inside, is_plain, one_line, open_regular, read_document


def test_a_regular_file_is_opened_through_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"here"


def test_a_pipe_and_a_device_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "device", tmp_path):
        with pytest.raises(OSError, match="no regular file"):
            open_regular(path)


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        open_regular(tmp_path / "a")
    assert is_inside(tmp_path / "a", tmp_path)


@pytest.mark.parametrize("name", ["a", "a/b.c", ".hidden", "a b", "..a", "c..", "weiß"])
def test_a_plain_name_is_one_of_the_folder(name: str) -> None:
    assert is_plain(name)


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.", "a\0", "a\n", "\ud800"])
def test_others_are_not(name: str) -> None:
    assert not is_plain(name)


@given(st.text(st.sampled_from("./a\0"), max_size=8))
def test_no_plain_name_climbs(name: str) -> None:
    if is_plain(name):
        assert is_inside(Path("/folder") / name, Path("/folder"))


def test_a_link_out_of_a_folder_is_not_inside(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "secret").touch()
    (tmp_path / "folder" / "out").symlink_to("../secret")
    (tmp_path / "folder" / "in").symlink_to("other")
    assert not is_inside(tmp_path / "folder" / "out", tmp_path / "folder")
    assert is_inside(tmp_path / "folder" / "in", tmp_path / "folder")


class TestDocument:
    @pytest.mark.parametrize("document", [None, [1], {"a": {"b": [float("inf")]}}])
    def test_is_read(self, tmp_path: Path, document: Any) -> None:
        (tmp_path / "file").write_text(json.dumps(document))
        assert read_document(tmp_path / "file") == document

    @pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 500, 200_000])
    @pytest.mark.parametrize("pair", ["[]", ('{"a":', "}")])
    def test_that_is_deep_is_refused(self, tmp_path: Path, levels: int, pair: tuple[str, str]) -> None:
        (tmp_path / "file").write_text(pair[0] * levels + "1" + pair[1] * levels)
        with pytest.raises(ValueError, match=f"nested deeper than {MAX_DEPTH} levels"):
            read_document(tmp_path / "file")

    def test_of_just_so_many_levels_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("[" * MAX_DEPTH + "1" + "]" * MAX_DEPTH)
        assert read_document(tmp_path / "file")

    def test_that_is_large_is_refused_before_it_is_read(self, tmp_path: Path) -> None:
        with (tmp_path / "file").open("wb") as file:
            file.truncate(2**40)
        with pytest.raises(ValueError, match=f"larger than {MAX_DOCUMENT_MIB} MiB"):
            read_document(tmp_path / "file")

    @given(st.binary())
    def test_of_any_bytes_is_one_or_refused(self, tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
        path = tmp_path_factory.getbasetemp() / "bytes.json"
        path.write_bytes(content)
        try:
            read_document(path)
        except ValueError as error:
            assert one_line(error)


@given(st.text())
def test_an_error_in_one_line_can_be_printed(text: str) -> None:
    line = one_line(ValueError(text))
    assert not line or line.isprintable()
    assert len(one_line(ValueError(text * 1000))) <= 300
