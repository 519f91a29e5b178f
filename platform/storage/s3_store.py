"""A store in S3-compatible storage."""

import socket
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ...models.files import is_plain
from ...models.manifest import MANIFEST, read_manifest, verify_directory
from ..base.s3_address import S3Address
from ..base.s3_reason import s3_reason
from .folders import copy_folder
from .s3_client import PATIENT, Patience, patiently, s3_client
from .store import Entry, MissingKeyError, StoreError, checked

T = TypeVar("T")


@dataclass(frozen=True)
class S3Store:
    """A bucket, or what is below a prefix in it."""

    place: S3Address
    patience: Patience = PATIENT

    def __reduce__(self) -> tuple[Any, ...]:
        # The client stays.
        return S3Store, (self.place, self.patience)

    @property
    def address(self) -> str:
        return str(self.place)

    @property
    def folder(self) -> None:
        return None

    @property
    def beat_s(self) -> float:
        return 10.0

    def at(self, prefix: str) -> "S3Store":
        part = S3Store(S3Address(self.place.bucket, self._name(prefix)), self.patience)
        # With the connections that there are.
        vars(part)["_client"] = self._client
        return part

    def read(self, key: str) -> bytes:
        def fetch() -> bytes:
            # The body itself, for what it gives by `with` counts no bytes, and has errors of its own.
            with closing(self._client.get_object(Bucket=self.place.bucket, Key=self._name(key))["Body"]) as body:
                return body.read()

        return self._ask(fetch, key)

    def write(self, key: str, content: bytes) -> None:
        self._ask(lambda: self._client.put_object(Bucket=self.place.bucket, Key=self._name(key), Body=content), key)

    def keys(self, prefix: str = "") -> list[str]:
        return [entry.key for entry in self.entries(prefix)]

    def entries(self, prefix: str = "") -> list[Entry]:
        root = f"{self.place.prefix}/" if self.place.prefix else ""
        below = f"{root}{checked(prefix)}/" if prefix else root

        def listed() -> list[Entry]:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.place.bucket, Prefix=below)
            return [
                Entry(key=item["Key"].removeprefix(root), bytes=item["Size"], changed=item["LastModified"].timestamp())
                for page in pages
                for item in page.get("Contents", ())
            ]

        # What a console calls a folder is an object whose name ends with a slash.
        plain = [entry for entry in self._ask(listed, prefix) if is_plain(entry.key)]
        return sorted(plain, key=lambda entry: entry.key)

    def put(self, folder: Path, key: str) -> None:
        verify_directory(folder)
        manifest = (folder / MANIFEST).read_bytes()
        # What is there under the same manifest is the same, or damaged.
        if self._manifest(key) != manifest:
            self._delete(self.keys(key))
        for name in read_manifest(folder):
            self._upload(folder / name, f"{key}/{name}")
        self.write(f"{key}/{MANIFEST}", manifest)

    def get(self, key: str, folder: Path) -> None:
        def fetch(name: str, path: Path) -> None:
            self._download(f"{key}/{name}", path)

        copy_folder(f"{self.address}/{key}", lambda: self.read(f"{key}/{MANIFEST}"), fetch, folder)

    def remove(self, prefix: str) -> None:
        keys = self.keys(checked(prefix))
        # rclone never answers who deletes what is a folder to it.
        with suppress(MissingKeyError):
            self._ask(lambda: self._client.head_object(Bucket=self.place.bucket, Key=self._name(prefix)), prefix)
            keys.append(prefix)
        self._delete(keys)

    @cached_property
    def _client(self) -> Any:
        return s3_client(self.patience)

    def _manifest(self, key: str) -> bytes | None:
        try:
            return self.read(f"{key}/{MANIFEST}")
        except MissingKeyError:
            return None

    def _delete(self, keys: list[str]) -> None:
        for key in sorted(keys, key=lambda key: Path(key).name != MANIFEST):
            self._ask(lambda key=key: self._client.delete_object(Bucket=self.place.bucket, Key=self._name(key)), key)

    def _upload(self, path: Path, key: str) -> None:
        def upload() -> None:
            with path.open("rb") as file:
                self._client.upload_fileobj(file, self.place.bucket, self._name(key))

        self._ask(upload, key)

    def _download(self, key: str, path: Path) -> None:
        self._ask(lambda: self._client.download_file(self.place.bucket, self._name(key), str(path)), key)

    def _name(self, key: str) -> str:
        """Of a key's object."""
        return f"{self.place.prefix}/{checked(key)}" if self.place.prefix else checked(key)

    def _ask(self, work: Callable[[], T], key: str) -> T:
        """Do what may be done twice, patiently. Raises MissingKeyError and StoreError for what boto3 raises."""
        from botocore.exceptions import ClientError

        try:
            return patiently(work, self.patience)
        except Exception as error:
            # Of a request without a body, the code is the status.
            if isinstance(error, ClientError) and error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                raise MissingKeyError(f"{self.address}/{key} does not exist") from None
            if (reason := s3_reason(error)) is None:
                raise
            raise StoreError(f"on {socket.gethostname()}: {self.address} cannot be used: {reason}") from None
