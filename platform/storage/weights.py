"""Start weights from S3-compatible storage, of which this machine keeps copies."""

import hashlib
import shutil
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ...models.manifest import MANIFEST
from ...trainers.errors import UserError
from ..base.keys import S3
from ..base.s3_reason import s3_reason
from .cache import Cache, machine_cache
from .once import make_once
from .s3_client import AT_ONCE, s3_client


def start_weights(weights: str | None, *, resumes: bool) -> Path | None:
    """Where start weights lie on this machine; None where there are none, or the run `resumes` and needs none.

    Raises UserError for weights that cannot be fetched, and BrokenEnvironmentError where there is no room for them.
    """
    return None if weights is None or resumes else local_weights(weights)


def local_weights(uri: str, cache: Cache | None = None) -> Path:
    """The path of weights: that of a path itself, and for `s3://bucket/key` that of a copy, by default this machine's.

    The key is a file's, or what the keys of a model directory's files begin with. A copy is used again as long as
    ETags and sizes in the bucket are those of then. Raises UserError for what is not there and what cannot be reached.
    """
    if not uri.startswith(S3):
        return Path(uri)
    bucket, _, key = uri.removeprefix(S3).rstrip("/").partition("/")
    if not bucket or not key:
        raise UserError(f"weights {uri} must have the form s3://bucket/key")
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = s3_client(AT_ONCE)
        try:
            path = _copy(client, bucket, key, cache or machine_cache())
        finally:
            client.close()
    except (BotoCoreError, ClientError, ValueError) as error:
        reason = s3_reason(error) or " ".join(str(error).split())
        raise UserError(f"weights {uri} cannot be fetched: {reason}") from None
    if path is None:
        raise UserError(f"weights {uri} do not exist: the bucket has neither such a file nor a model directory there")
    return path


def _copy(client: Any, bucket: str, key: str, cache: Cache) -> Path | None:
    """The copy of a file or directory, made unless it is there; None if the bucket has neither."""
    files = _files(client, bucket, key)
    if not files:
        return None
    # What is in the bucket under the same key tomorrow has another name here.
    version = hashlib.sha256(repr((bucket, files)).encode()).hexdigest()[:32]
    folder = cache.keep("weights", version, sum(size for _, size in files.values()))
    name = key.rpartition("/")[2]
    for file, (etag, _) in files.items():
        make_once(folder / f"{name}{file.removeprefix(key)}", partial(_fetch, client, bucket, file, etag))
    return folder / name


def _fetch(client: Any, bucket: str, key: str, etag: str, file: BinaryIO) -> None:
    with closing(client.get_object(Bucket=bucket, Key=key, IfMatch=etag)["Body"]) as body:
        shutil.copyfileobj(body, file)


def _files(client: Any, bucket: str, key: str) -> dict[str, tuple[str, int]]:
    """ETag and size of the file with a key, or of the files of the model directory there, by their keys."""
    from botocore.exceptions import ClientError

    try:
        head = client.head_object(Bucket=bucket, Key=key)
        return {key: (head["ETag"], head["ContentLength"])}
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{key}/", Delimiter="/")
    entries = (entry for page in pages for entry in page.get("Contents", ()) if not entry["Key"].endswith("/"))
    found = {entry["Key"]: (entry["ETag"], entry["Size"]) for entry in entries}
    return found if f"{key}/{MANIFEST}" in found else {}
