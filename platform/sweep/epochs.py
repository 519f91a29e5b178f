"""The epochs that a sweep's folders have seen, of which a ledger restored from a backup may know nothing."""

from pathlib import Path

from ..base.keys import BASELINE, directory_of
from ..workers.lease import holder_of


def newest_epoch(storage: Path, sweep: str) -> int:
    """The newest epoch that holds a lease of a trial of a sweep, or of its baseline; 0 if none was ever taken."""
    folders = directory_of(storage, sweep).glob("*/")
    holders = (holder_of(folder) for folder in folders if folder.name.isdecimal() or folder.name == BASELINE)
    return max((holder.epoch for holder in holders if holder), default=0)
