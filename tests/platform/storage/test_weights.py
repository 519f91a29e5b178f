"""Weights from a bucket that a real S3 server keeps on this machine."""

import shutil
import socket
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from proxy import Proxy, Trouble

from advseg.models import load
from advseg.models.architectures import IMAGENET, CompactSettings, build_segmenter
from advseg.models.bundle import Card, save
from advseg.platform.storage.cache import Cache
from advseg.platform.storage.s3_client import AT_ONCE, s3_client
from advseg.platform.storage.weights import local_weights
from advseg.trainers.errors import UserError

BUCKET = "weights"


def tell(server: str, command: str, content: bytes = b"") -> None:
    """Change the server itself: `reset` empties it, `reset-auth` lets it check credentials after so many requests."""
    headers = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(f"{server}/moto-api/{command}", content, headers)).close()


@pytest.fixture
def server(moto_server: str) -> str:
    return moto_server


@pytest.fixture(autouse=True)
def environment(server: str, aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)


@pytest.fixture
def bucket(server: str) -> Iterator[Any]:
    """A bucket of this test's own, by a client of its own."""
    tell(server, "reset")
    client = s3_client(AT_ONCE)
    client.create_bucket(Bucket=BUCKET)
    yield client
    client.close()


@pytest.fixture
def put(bucket: Any) -> Callable[[str, bytes], None]:
    return lambda key, content: bucket.put_object(Bucket=BUCKET, Key=key, Body=content)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    settings = CompactSettings(width=8)
    card = Card(
        segmenter=settings,
        discriminator=None,
        classes=("a", "b"),
        palette=((0, 0, 0), (9, 9, 9)),
        ignore_index=255,
        normalisation=IMAGENET,
    )
    save(tmp_path / "model", card, build_segmenter(settings, 2).state_dict(), None)
    return tmp_path / "model"


def leftovers(cache: Path) -> list[Path]:
    return list(cache.rglob(".*"))


@pytest.mark.parametrize("path", ["resnet101.pth", "/data/model", "s3/weights.pth"])
def test_a_path_stays_as_it_is_and_touches_no_cache(path, tmp_path):
    assert local_weights(path, Cache(tmp_path / "cache")) == Path(path)
    assert not (tmp_path / "cache").exists()


def test_a_file_of_a_bucket_is_copied_under_its_own_name(put, tmp_path):
    content = bytes(range(256)) * 50_000
    put("resnets/101.pth", content)

    path = local_weights(f"s3://{BUCKET}/resnets/101.pth", Cache(tmp_path / "cache"))

    assert path.name == "101.pth"
    assert path.read_bytes() == content
    assert path.is_relative_to(tmp_path / "cache")
    assert not leftovers(tmp_path / "cache")


def test_a_model_directory_of_a_bucket_is_copied_whole(put, model, tmp_path):
    for file in model.iterdir():
        put(f"models/shapes/{file.name}", file.read_bytes())
    put("models/shapes/", b"")
    put("models/shapes/notes/big.bin", b"no part of a model")
    put("models/shapes-2/MANIFEST.json", b"another model's")

    path = local_weights(f"s3://{BUCKET}/models/shapes/", Cache(tmp_path / "cache"))

    assert path.name == "shapes"
    assert load(path).card == load(model).card
    assert {file.name for file in path.iterdir()} == {file.name for file in model.iterdir()}


def test_a_copy_is_used_again_while_the_bucket_has_the_same(put, tmp_path):
    put("w.pth", b"first")
    path = local_weights(f"s3://{BUCKET}/w.pth", Cache(tmp_path))
    path.write_bytes(b"mark!")

    again = local_weights(f"s3://{BUCKET}/w.pth", Cache(tmp_path))

    assert again == path
    assert again.read_bytes() == b"mark!"


def test_what_changed_in_the_bucket_is_copied_anew(put, model, tmp_path):
    put("w.pth", b"first")
    first = local_weights(f"s3://{BUCKET}/w.pth", Cache(tmp_path))
    put("w.pth", b"other")

    second = local_weights(f"s3://{BUCKET}/w.pth", Cache(tmp_path))

    assert (first.read_bytes(), second.read_bytes()) == (b"first", b"other")


def test_workers_that_ask_at_once_share_one_copy(put, tmp_path):
    put("w.pth", b"x" * 3_000_000)

    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: local_weights(f"s3://{BUCKET}/w.pth", Cache(tmp_path)), range(4)))

    assert len(set(paths)) == 1
    assert paths[0].stat().st_size == 3_000_000
    assert not leftovers(tmp_path)


def test_a_copy_that_broke_off_leaves_nothing_and_is_made_next_time(put, tmp_path, monkeypatch):
    put("w.pth", b"content")

    def broken(body, file):
        file.write(body.read(3))
        raise ReadTimeoutError(endpoint_url="http://there")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="does not answer"):
        patch.setattr(shutil, "copyfileobj", broken)
        local_weights(f"s3://{BUCKET}/w.pth", Cache(tmp_path))

    assert not list(tmp_path.rglob("*.pth"))
    assert local_weights(f"s3://{BUCKET}/w.pth", Cache(tmp_path)).read_bytes() == b"content"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://", "must have the form s3://bucket/key"),
        ("s3://weights", "must have the form s3://bucket/key"),
        ("s3://weights/", "must have the form s3://bucket/key"),
        ("s3://weights/absent.pth", "neither such a file nor a model directory there"),
        ("s3://weights/images", "neither such a file nor a model directory there"),
        ("s3://elsewhere/w.pth", "there is no such bucket"),
        ("s3://no bucket's name!/w.pth", "Invalid bucket name"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(uri, reason, put, tmp_path):
    put("images/1.jpg", b"far too many of these to copy")

    with pytest.raises(UserError) as caught:
        local_weights(uri, Cache(tmp_path / "cache"))

    assert str(caught.value).startswith(f"weights {uri} ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_storage_that_does_not_answer_is_told_in_one_line(tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")

        with pytest.raises(UserError, match=r"does not answer, check AWS_ENDPOINT_URL \(.*127\.0\.0\.1"):
            local_weights(f"s3://{BUCKET}/w.pth", Cache(tmp_path))


def test_an_answer_that_breaks_off_is_told_in_one_line(server, put, tmp_path, monkeypatch):
    put("w.pth", bytes(3_000_000))
    with Proxy(server, passes_host=True).serving() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.uri)
        proxy.trouble_of = lambda command, path: Trouble.CUT_ANSWER if command == "GET" else None

        with pytest.raises(UserError, match="does not answer"):
            local_weights(f"s3://{BUCKET}/w.pth", Cache(tmp_path))


def test_an_endpoint_that_is_no_address_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nowhere")

    with pytest.raises(UserError, match="cannot be fetched: AWS_ENDPOINT_URL must be an address like"):
        local_weights(f"s3://{BUCKET}/w.pth", Cache(tmp_path))


def test_without_credentials_the_variables_are_named(tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(UserError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        local_weights(f"s3://{BUCKET}/w.pth", Cache(tmp_path))


def test_credentials_that_are_refused_are_told_in_one_line(server, put, tmp_path):
    put("w.pth", b"secret")
    tell(server, "reset-auth", b"0")

    try:
        with pytest.raises(UserError, match="cannot be fetched: the credentials do not allow HeadObject"):
            local_weights(f"s3://{BUCKET}/w.pth", Cache(tmp_path))
    finally:
        tell(server, "reset-auth", b"inf")
