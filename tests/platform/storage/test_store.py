"""What every store promises, in a folder and on two S3 servers."""

import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from advseg.models import manifest
from advseg.models.files import is_plain
from advseg.models.manifest import MANIFEST, BrokenDirectoryError, FormatVersionError, verify_directory
from advseg.platform.storage.store import MissingKeyError, Store

LARGE = os.urandom(9 * 2**20)
"""More than boto3 sends in one request."""
NAMES = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/"), min_size=1, max_size=20)


@pytest.fixture(params=["folder", "moto", "rclone"])
def store(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    open_it: Callable[[str | Path], Store],
    new_bucket: Callable[[str], str],
) -> Store:
    if request.param == "folder":
        return open_it(tmp_path / "store")
    return open_it(f"{new_bucket(request.getfixturevalue(f'{request.param}_server'))}/some/where")


def files_in(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("content", [b"", b"some", bytes(range(256))])
def test_what_was_written_is_read(store, content):
    store.write("a/b.bin", content)

    assert store.read("a/b.bin") == content


def test_a_later_content_replaces_the_one_before(store):
    store.write("a", b"a long content")
    store.write("a", b"short")

    assert store.read("a") == b"short"


def test_an_absent_key_is_named(store):
    store.write("a/b", b"")

    for key in ("absent", "a", "a/b/c", "a/absent"):
        with pytest.raises(MissingKeyError, match=f"{store.address}/{key} "):
            store.read(key)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES.filter(is_plain), min_size=1, max_size=3))
@example(["a b", "c+d", "e%20f"])
@example([" x ", "..."])
@example(["?q=1&r=2", "#h", "$&*'()[]|<>"])
@example(["ünï", "日本語", "😀"])
@example(["-v", "~", "back\\slash"])
def test_any_name_makes_a_key(store, names):
    key = "/".join([f"{len(names)} names", *names])
    store.write(key, key.encode())

    assert store.keys() == [key]
    assert store.read(key) == key.encode()

    store.remove(key)
    assert store.keys() == []


def test_what_leads_elsewhere_is_no_key(store):
    for key in ["", "/", "/a", "a/", "a//b", "../a", "a/./b", "a\nb", "a\0"]:
        for use in (store.read, store.remove, lambda key: store.write(key, b"")):
            with pytest.raises(ValueError, match="is no key"):
                use(key)


def test_keys_are_those_below_a_prefix_in_order(store):
    for key in ("a/10/x", "a/1/z", "a/1/y/x", "a/1.json", "b"):
        store.write(key, b"")

    assert store.keys("a/1") == ["a/1/y/x", "a/1/z"]
    assert store.keys() == sorted(["a/1.json", "a/1/y/x", "a/1/z", "a/10/x", "b"])
    assert store.keys("absent") == store.keys("b") == []


def test_entries_tell_how_much_is_under_each_key_and_since_when(store):
    began = time.time()
    for key, content in (("a/1/x", b"123"), ("a/1.json", b"1"), ("a/2/y", b"")):
        store.write(key, content)

    found = store.entries("a")

    assert [(entry.key, entry.bytes) for entry in found] == [("a/1.json", 1), ("a/1/x", 3), ("a/2/y", 0)]
    # S3 counts whole seconds.
    assert all(int(began) - 1 <= entry.changed <= time.time() + 1 for entry in found)
    assert store.entries("absent") == []


def test_what_is_removed_is_gone_and_its_neighbours_stay(store):
    for key in ("a/1/x", "a/1/y/x", "a/10/x", "a/1.json", "b"):
        store.write(key, b"")

    store.remove("a/1")
    store.remove("b")
    store.remove("absent/key")

    assert store.keys() == ["a/1.json", "a/10/x"]


def test_a_folder_comes_back_as_it_was(store, sealed, tmp_path):
    folder = sealed(**{"large.bin": LARGE, "empty": b"", "a b+c%.txt": b"text"})
    (folder / "later.txt").write_bytes(b"the manifest does not know it")

    store.put(folder, "runs/1")
    store.get("runs/1", tmp_path / "new" / "copy")

    verify_directory(tmp_path / "new" / "copy")
    (folder / "later.txt").unlink()
    assert files_in(tmp_path / "new" / "copy") == files_in(folder)
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "copy"]
    assert store.keys("runs/1") == sorted(f"runs/1/{name}" for name in files_in(folder))


def test_a_folder_within_a_folder_comes_back(store, tmp_path):
    def write(directory: Path) -> None:
        (directory / "inner" / "most").mkdir(parents=True)
        (directory / "inner" / "most" / "a").write_bytes(b"a")

    manifest.write_directory(tmp_path / "nested", write)

    store.put(tmp_path / "nested", "nested")
    store.get("nested", tmp_path / "copy")

    assert files_in(tmp_path / "copy") == files_in(tmp_path / "nested")


def test_a_folder_replaces_the_one_before_whole(store, sealed, tmp_path):
    store.put(sealed("old", a=b"1", b=b"2"), "x")
    store.put(sealed("new", a=b"3", c=b"4"), "x")
    store.get("x", sealed("copy", d=b"5"))

    assert store.keys("x") == [f"x/{MANIFEST}", "x/a", "x/c"]
    assert files_in(tmp_path / "copy") == files_in(tmp_path / "new")


def test_a_folder_without_a_manifest_does_not_count(store, sealed, tmp_path):
    store.write("x/a", b"1")
    (tmp_path / "open").mkdir()

    with pytest.raises(MissingKeyError, match=f"{store.address}/x/{MANIFEST} does not exist"):
        store.get("x", sealed("before", a=b"0"))
    with pytest.raises(BrokenDirectoryError, match="it was never finished"):
        store.put(tmp_path / "open", "y")

    assert (tmp_path / "before" / "a").read_bytes() == b"0"
    assert store.keys("y") == []


def test_a_folder_that_is_damaged_is_not_put(store, sealed):
    store.put(sealed("before", a=b"1"), "x")
    folder = sealed(a=b"2")
    (folder / "a").write_bytes(b"3")

    with pytest.raises(BrokenDirectoryError, match=rf"{folder}/a differs from its checksum"):
        store.put(folder, "x")

    assert store.read("x/a") == b"1"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda store: store.write("x/a", b"0"), "/a differs from its checksum"),
        (lambda store: store.remove("x/a"), " lacks a"),
        (lambda store: store.write(f"x/{MANIFEST}", b"{"), f"/{MANIFEST} cannot be read"),
    ],
    ids=["changed", "lost", "manifest"],
)
def test_a_damaged_folder_is_told_and_stays_where_it_is_until_it_is_put_again(store, sealed, tmp_path, damage, words):
    folder = sealed(a=b"1", b=b"2")
    store.put(folder, "x")
    damage(store)

    with pytest.raises(BrokenDirectoryError) as caught:
        store.get("x", tmp_path / "copy")

    assert str(caught.value).startswith(f"{store.address}/x{words}")
    assert not list(tmp_path.glob("*copy*"))

    store.put(folder, "x")
    store.get("x", tmp_path / "copy")
    assert files_in(tmp_path / "copy") == files_in(folder)


def test_a_folder_of_another_format_is_told_from_a_damaged_one(store, sealed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "FORMAT_VERSION", 99)
        store.put(sealed(a=b"1"), "x")

    with pytest.raises(FormatVersionError, match=f"{store.address}/x has format version 99"):
        store.get("x", tmp_path / "copy")


def test_a_store_travels_to_other_processes(store):
    store.write("a", b"1")

    travelled = pickle.loads(pickle.dumps(store))

    assert travelled == store
    assert travelled.read("a") == b"1"


def test_a_reader_finds_one_folder_or_the_other_or_none(store, sealed, tmp_path):
    folders = [sealed(text, a=text.encode(), b=text.encode()) for text in ("one", "two")]
    seen = []
    done = threading.Event()

    def read() -> None:
        while not (done.is_set() and seen):
            with suppress(MissingKeyError):
                store.get("x", tmp_path / "copy")
                seen.append(tuple((tmp_path / "copy" / name).read_bytes() for name in "ab"))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        try:
            for folder in folders * 10:
                store.put(folder, "x")
        finally:
            done.set()
        reading.result()

    assert set(seen) <= {(b"one", b"one"), (b"two", b"two")}
