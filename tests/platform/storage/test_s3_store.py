"""Stores in S3 behind a bad network: nothing is lost, and nothing that is half there is seen."""

import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from proxy import Proxy, Trouble
from waiting import wait_for

from advseg.models.manifest import MANIFEST
from advseg.platform.storage.opening import open_store
from advseg.platform.storage.s3_client import AT_ONCE, Patience, s3_client
from advseg.platform.storage.store import MissingKeyError, Store, StoreError

LARGE = os.urandom(9 * 2**20)
"""More than boto3 sends in one request."""
NONE = Patience(attempts=1, outage_s=0, connect_s=1, read_s=1)


@pytest.fixture(params=["moto", "rclone"])
def server(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture
def bucket(server: str, new_bucket: Callable[[str], str]) -> str:
    return new_bucket(server)


@pytest.fixture
def network(server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """What stands between the server and the clients that are made from now on."""
    with Proxy(server, passes_host=True).serving() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.uri)
        yield proxy


@pytest.fixture
def direct(server: str, bucket: str, open_it: Callable[[str], Store]) -> Store:
    """The store as whoever has a better network sees it."""
    store = open_it(bucket)
    store.keys()  # connects
    return store


@pytest.fixture
def store(direct: Store, network: Proxy, bucket: str, open_it: Callable[[str], Store]) -> Store:
    return open_it(bucket)


def content_of(store: Store, key: str, folder: Path) -> dict[str, bytes] | None:
    """Of a folder in a store; None if there is none."""
    try:
        store.get(key, folder)
    except MissingKeyError:
        return None
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != MANIFEST}


def test_what_every_third_request_meets_loses_nothing(store, network, sealed, tmp_path):
    chance = random.Random(0)
    troubles = [Trouble.BUSY, Trouble.CUT, Trouble.CUT_ANSWER, Trouble.AWAY]
    network.trouble_of = lambda command, path: chance.choice(troubles) if chance.random() < 0.3 else None
    contents = {"large": LARGE, **{f"small-{number}": bytes([number]) * 1000 for number in range(8)}}

    store.put(sealed("old", large=b"of old"), "x")
    store.put(sealed(**contents), "x")
    for number in range(8):
        store.write(f"notes/{number}", str(number).encode())

    assert content_of(store, "x", tmp_path / "copy") == contents
    assert [store.read(key) for key in store.keys("notes")] == [b"%d" % number for number in range(8)]
    store.remove("notes")
    assert store.keys() == sorted(f"x/{name}" for name in (MANIFEST, *contents))
    assert network.troubled > 10


def test_an_answer_that_breaks_off_is_asked_for_again(store, network, direct):
    direct.write("a", LARGE)
    network.trouble_of = lambda command, path: Trouble.CUT_ANSWER if network.troubled < 3 else None

    assert store.read("a") == LARGE
    assert network.troubled == 3


def test_an_outage_is_waited_out(store, network, sealed, tmp_path):
    requests = itertools.count()
    network.trouble_of = lambda command, path: Trouble.AWAY if 3 <= next(requests) < 40 else None

    with ThreadPoolExecutor(4) as pool:
        writing = [pool.submit(store.write, str(number), LARGE[:number]) for number in range(4)]
        store.put(sealed(a=b"1"), "x")
        for each in writing:
            each.result()

    assert network.troubled == 37
    assert content_of(store, "x", tmp_path / "copy") == {"a": b"1"}
    assert [len(store.read(str(number))) for number in range(4)] == [0, 1, 2, 3]


def test_storage_that_is_slow_is_waited_for(store, network, sealed, tmp_path):
    network.trouble_of = lambda command, path: time.sleep(0.1)

    store.put(sealed(a=b"1"), "x")

    assert content_of(store, "x", tmp_path / "copy") == {"a": b"1"}


def test_storage_that_never_answers_is_asked_again(store, network, bucket):
    network.trouble = Trouble.HANGS
    network.trouble_of = lambda command, path: network.trouble if network.troubled < 2 else None

    open_store(bucket, replace(NONE, outage_s=60, retry_s=0)).write("a", b"1")

    assert network.troubled == 2
    assert store.read("a") == b"1"


def test_a_hiccup_costs_no_waiting_for_an_outage(store, network, bucket):
    network.trouble_of = lambda command, path: Trouble.BUSY if not network.troubled else None

    open_store(bucket, replace(NONE, attempts=2)).write("a", b"1")

    assert network.troubled == 1
    assert store.read("a") == b"1"


def test_a_put_that_breaks_off_after_any_request_leaves_nothing_that_is_half_there(
    direct, network, bucket, sealed, tmp_path
):
    store = open_store(bucket, NONE)
    old, new = {"a": b"old", "b": b"old"}, {"a": b"new", "b": b"new", "c": b"new"}
    seen = []

    for last in itertools.count():
        direct.put(sealed("old", **old), "x")
        requests = itertools.count()
        network.trouble_of = lambda *_, requests=requests, last=last: Trouble.AWAY if next(requests) >= last else None
        try:
            store.put(sealed("new", **new), "x")
        except StoreError:
            seen.append(content_of(direct, "x", tmp_path / "copy"))
        else:
            break

    assert seen == [old] * seen.count(old) + [None] * seen.count(None)
    assert old in seen
    assert None in seen
    assert content_of(direct, "x", tmp_path / "copy") == new


def test_a_removal_that_breaks_off_after_any_request_leaves_nothing_that_is_half_there(
    direct, network, bucket, sealed, tmp_path
):
    store = open_store(bucket, NONE)
    whole = {"a": b"1", "b": b"2"}
    seen = []

    for last in itertools.count():
        direct.put(sealed(**whole), "x/1")
        requests = itertools.count()
        network.trouble_of = lambda *_, requests=requests, last=last: Trouble.AWAY if next(requests) >= last else None
        try:
            store.remove("x")
        except StoreError:
            seen.append(content_of(direct, "x/1", tmp_path / "copy"))
        else:
            break

    assert seen == [whole] * seen.count(whole) + [None] * seen.count(None)
    assert whole in seen
    assert None in seen
    assert direct.keys() == []


def test_an_upload_in_parts_that_breaks_off_is_aborted(direct, network, bucket, sealed):
    network.trouble_of = lambda command, path: Trouble.BUSY if "partNumber=2" in path else None

    with pytest.raises(StoreError, match="SlowDown"):
        open_store(bucket, NONE).put(sealed(large=LARGE), "x")

    assert network.troubled
    client = s3_client(AT_ONCE)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket.removeprefix("s3://"))
    client.close()
    assert direct.keys() == []


@pytest.mark.parametrize("server", ["rclone"], indirect=True)
@pytest.mark.parametrize(("reached", "left"), [("partNumber=2", []), (MANIFEST, ["x/large"])])
def test_a_put_that_is_killed_leaves_nothing_that_counts_and_is_mended_by_the_next(
    direct, network, bucket, sealed, tmp_path, reached, left
):
    folder = sealed(large=LARGE)
    network.trouble = Trouble.HANGS
    network.trouble_of = lambda command, path: network.trouble if command == "PUT" and reached in path else None
    program = Path(__file__).with_name("put_program.py")

    putting = subprocess.Popen([sys.executable, str(program), bucket, str(folder), "x"])
    wait_for(lambda: network.troubled or putting.poll() is not None)
    putting.kill()
    putting.wait()

    assert direct.keys() == left
    assert content_of(direct, "x", tmp_path / "copy") is None
    direct.put(folder, "x")
    assert content_of(direct, "x", tmp_path / "copy") == {"large": LARGE}


def test_a_reader_beside_a_bad_network_finds_one_folder_or_the_other_or_none(store, direct, network, sealed, tmp_path):
    chance = random.Random(1)
    network.trouble_of = lambda command, path: Trouble.CUT if chance.random() < 0.3 else None
    contents = [{"a": text, "b": text} for text in (b"one", b"two")]
    folders = [sealed(f"new-{number}", **content) for number, content in enumerate(contents)]

    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(lambda: [store.put(folder, "x") for folder in folders * 5])
        while not putting.done():
            assert content_of(direct, "x", tmp_path / "copy") in (None, *contents)
        putting.result()

    assert network.troubled
    assert content_of(direct, "x", tmp_path / "copy") == contents[1]


def test_storage_that_stays_away_is_told_in_one_line(network, bucket):
    network.trouble = Trouble.AWAY

    for use in (lambda store: store.keys(), lambda store: store.read("a"), lambda store: store.write("a", b"")):
        with pytest.raises(StoreError) as caught:
            use(open_store(f"{bucket}/some", NONE))
        assert f"{bucket}/some cannot be used: the storage does not answer, check AWS_ENDPOINT_URL" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_bucket_that_there_is_not_is_told_in_one_line(store):
    with pytest.raises(StoreError, match=r"s3://not-there/x cannot be used: there is no such bucket: make it"):
        open_store("s3://not-there/x", NONE).write("a", b"")


def test_keys_that_are_refused_are_told_in_one_line(rclone_server, new_bucket, monkeypatch):
    bucket = new_bucket(rclone_server)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")

    with pytest.raises(
        StoreError, match=rf"{bucket} cannot be used: the credentials do not allow ListObjectsV2"
    ) as caught:
        open_store(bucket, NONE).keys()

    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("address", ["me:hunter2@localhost:9000", "http://no such host", "http://[::1"])
def test_an_endpoint_that_is_no_address_is_told_in_one_line(aws_environment, monkeypatch, address):
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)

    with pytest.raises(StoreError) as caught:
        open_store("s3://bucket/x", NONE).keys()

    assert "s3://bucket/x cannot be used: AWS_ENDPOINT_URL must be an address like https://" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_more_keys_than_one_answer_lists_are_listed(rclone_server, rclone_folder, new_bucket):
    bucket = new_bucket(rclone_server)
    folder = rclone_folder / bucket.removeprefix("s3://") / "many"
    folder.mkdir()
    for number in range(1001):
        (folder / f"{number:04}").touch()

    assert open_store(bucket, NONE).keys("many") == [f"many/{number:04}" for number in range(1001)]
