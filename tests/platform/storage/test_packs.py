"""Packs in a bucket that a real S3 server keeps on this machine."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from advseg.models.manifest import MANIFEST
from advseg.platform.storage.cache import Cache
from advseg.platform.storage.opening import open_store
from advseg.platform.storage.packs import inspect_dataset, open_dataset
from advseg.platform.storage.s3_store import S3Store
from advseg.platform.storage.store import Store, StoreError
from advseg.trainers.data import packing
from advseg.trainers.data.dataset import Dataset, DatasetError, DatasetSettings
from advseg.trainers.data.opening import inspect_dataset as inspect_here
from advseg.trainers.data.opening import open_dataset as open_here
from advseg.trainers.data.packing import write_pack
from advseg.trainers.data.shapes import CLASSES, ShapesSettings, write_shapes

SHARDS = 5
"""Of the pack, each of one image."""


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetSettings:
    """The shapes, and their pack in a folder."""
    write_shapes(tmp_path / "shapes", ShapesSettings(labelled=2, unlabelled=2, val=1, test=1, size=16))
    plain = DatasetSettings(root=tmp_path / "shapes", classes=CLASSES)
    monkeypatch.setattr(packing, "SHARD_BYTES", 1)
    write_pack(tmp_path / "pack", open_here(plain), plain)
    return replace(plain, pack=str(tmp_path / "pack"))


@pytest.fixture
def there(local: DatasetSettings, new_bucket: Callable[[str], str], moto_server: str) -> DatasetSettings:
    """The same, in a bucket; the images are not to be found any more."""
    address = new_bucket(moto_server)
    assert local.pack
    open_store(address).put(Path(local.pack), "packs/shapes")
    shutil.rmtree(local.root)
    return replace(local, pack=f"{address}/packs/shapes")


@pytest.fixture
def store(there: DatasetSettings) -> Store:
    assert there.pack
    return open_store(there.pack)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that are read."""
    keys: list[str] = []
    read = S3Store.read

    def reading(self: S3Store, key: str) -> bytes:
        keys.append(key)
        return read(self, key)

    monkeypatch.setattr(S3Store, "read", reading)
    return keys


def shards(cache: Cache) -> list[str]:
    """Those that are there, and what there is half of."""
    return sorted(path.name for path in cache.root.rglob("*.arrow*"))


def pixels(dataset: Dataset) -> list[tuple[str, bytes, bytes | None]]:
    masks = [(sample, sample.read_mask()) for samples in dataset.parts.values() for sample in samples]
    return [(s.id, s.read_image().tobytes(), None if mask is None else mask.tobytes()) for s, mask in masks]


def test_opens_by_its_card_alone_and_each_shard_comes_when_it_is_read(there, local, cache, asked):
    dataset = open_dataset(there, cache)

    assert sorted(asked) == [MANIFEST, "pack.json"]
    assert dataset.digest == open_here(local).digest
    dataset.unlabelled[1].read_image()
    assert asked[2:] == shards(cache) == ["unlabelled-00001.arrow"]
    assert pixels(dataset) == pixels(open_here(local))
    assert len(asked) == 2 + SHARDS


def test_a_second_attempt_fetches_nothing_but_the_card(there, cache, asked):
    first = pixels(open_dataset(there, cache))
    del asked[:]

    assert pixels(open_dataset(there, cache)) == first
    assert sorted(asked) == [MANIFEST, "pack.json"]


def test_threads_that_read_ahead_fetch_no_shard_twice(there, cache, asked):
    dataset, together = open_dataset(there, cache), Barrier(4)

    def read(_: int) -> list[tuple[str, bytes, bytes | None]]:
        together.wait()
        return pixels(dataset)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, range(4)))

    assert all(each == found[0] for each in found)
    assert len(asked) == 2 + SHARDS


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (
            lambda store, name: store.write(name, store.read(name)[:-1] + b"?"),
            f"differs from its checksum in {MANIFEST}",
        ),
        (lambda store, name: store.remove(name), "does not exist"),
    ],
    ids=["damaged", "lost"],
)
def test_a_shard_that_is_not_as_it_was_written_is_told_in_a_line(there, store, cache, harm, told):
    dataset = open_dataset(there, cache)
    harm(store, "labelled-00001.arrow")

    dataset.labelled[0].read_image()
    with pytest.raises(DatasetError) as caught:
        dataset.labelled[1].read_image()

    assert str(caught.value).startswith(
        f"{there.pack}/labelled-00001.arrow {told}: remove it and write it again by `adv"
    )
    assert "\n" not in str(caught.value)
    assert "labelled-00001.arrow" not in shards(cache)
    assert inspect_dataset(there, cache).problems == (str(caught.value),)


@pytest.mark.parametrize("name", [MANIFEST, "pack.json"])
def test_what_is_no_whole_pack_is_told_in_a_line(there, store, cache, name):
    store.remove(name)

    with pytest.raises(DatasetError) as caught:
        open_dataset(there, cache)

    assert str(caught.value) == (
        f"pack {there.pack} does not exist, or is not whole: write it by `advseg data pack SPEC {there.pack}`, or "
        f"remove dataset.pack to read the images themselves"
    )
    assert not cache.root.exists()


def test_a_damaged_card_and_other_settings_are_told_of_the_bucket(there, store, cache):
    with pytest.raises(DatasetError, match=r"^pack s3://\S+/packs/shapes was made with other settings: dataset\.fract"):
        open_dataset(replace(there, fraction=0.5), cache)
    store.write("pack.json", b"{}")
    with pytest.raises(DatasetError, match=r"^s3://\S+/packs/shapes/pack\.json differs from its checksum in MANIFEST"):
        open_dataset(there, cache)


def test_another_pack_in_its_place_is_another_copy(there, local, cache, tmp_path):
    before = open_dataset(there, cache)
    write_shapes(tmp_path / "other", ShapesSettings(labelled=2, unlabelled=2, val=1, test=1, size=16, seed=1))
    other = open_here(replace(local, root=tmp_path / "other", pack=None))
    write_pack(tmp_path / "new" / "shapes", other, local)
    open_store(there.pack.removesuffix("/shapes")).put(tmp_path / "new" / "shapes", "shapes")

    assert pixels(open_dataset(there, cache)) == pixels(other)
    with pytest.raises(DatasetError, match="differs from its checksum"):
        pixels(before)
    assert len(list((cache.root / "packs").iterdir())) == 2


def test_checking_it_reads_all_of_it_and_names_the_bucket(there, local, cache):
    found, expected = inspect_dataset(there, cache), inspect_here(local)

    assert found.parts == expected.parts
    assert found.notes == tuple(note.replace(str(local.pack), str(there.pack)) for note in expected.notes)
    assert len(shards(cache)) == SHARDS


def test_a_storage_that_does_not_answer_is_told_at_once(there, cache, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")

    with pytest.raises(StoreError, match=r"packs/shapes cannot be used: the storage does not answer"):
        open_dataset(there, cache)


def test_a_folder_is_read_where_it_lies(local, cache):
    assert pixels(open_dataset(local, cache)) == pixels(open_here(local))
    assert inspect_dataset(local, cache).parts == inspect_here(local).parts
    assert not cache.root.exists()
