"""The address of a place in S3-compatible storage: `s3://bucket/prefix`."""

import re
from dataclasses import dataclass

from ...models.files import is_plain
from .addresses import holds_secret, shown
from .keys import S3

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True)
class S3Address:
    """A bucket, and what the keys of the place begin with: empty, or names with slashes between them."""

    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"{S3}{self.bucket}{f'/{self.prefix}' if self.prefix else ''}"


def s3_address(text: str) -> S3Address:
    """The address that a text is. Raises ValueError, in one line that shows no secret, for one that is none."""
    bucket, _, prefix = text.removeprefix(S3).removesuffix("/").partition("/")
    if ":" in bucket or "@" in bucket or re.search("[?#]", text) or holds_secret(text):
        remedy = "remove it, and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, and AWS_ENDPOINT_URL"
        raise ValueError(f"{shown(text)} holds more than a bucket and a prefix: {remedy}")
    if not text.startswith(S3):
        raise ValueError(f"{shown(text)} must have the form s3://bucket/prefix")
    if not _BUCKET.fullmatch(bucket):
        rule = "3 to 63 lower-case letters, digits, dots and hyphens, the first and last no dot or hyphen"
        raise ValueError(f"{text} names the bucket {bucket!r}, but a bucket's name has {rule}")
    if prefix and not is_plain(prefix):
        raise ValueError(f"{S3}{bucket} has the prefix {prefix!r}, but a prefix is names with one slash between them")
    return S3Address(bucket, prefix)
