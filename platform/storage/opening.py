"""Which store an address stands for."""

from pathlib import Path

from ..base.keys import S3
from ..base.s3_address import s3_address
from .local_store import LocalStore
from .s3_client import PATIENT, Patience
from .s3_store import S3Store
from .store import Store


def open_store(address: str | Path, patience: Patience = PATIENT) -> Store:
    """The store at a folder's path or at `s3://bucket/prefix`, which is connected to when it is used.

    Raises ValueError for an address of S3 that is none.
    """
    if str(address).startswith(S3):
        return S3Store(s3_address(str(address)), patience)
    return LocalStore(Path(address))
