"""Where a job keeps what lasts: a folder, or a place in S3-compatible storage."""

from typing import Annotated

from pydantic import AfterValidator

from ..base.keys import S3
from ..base.s3_address import s3_address


def check_storage(storage: str) -> str:
    """A path, or an address of S3 without a slash at its end. Raises ValueError for such an address that is none."""
    return str(s3_address(storage)) if storage.startswith(S3) else storage


StorageAddress = Annotated[str, AfterValidator(check_storage)]
"""A folder's path, or `s3://bucket/prefix`."""
