"""The epochs that a sweep's trainings have seen, of which a ledger restored from a backup may know nothing."""

from ..base.keys import is_of_sweep, key_of
from ..storage.store import Store
from ..workers.lease import holder_of


def newest_epoch(store: Store, sweep: str) -> int:
    """The newest epoch that holds a lease of a training of a sweep; 0 if none was ever taken."""
    names = {key.split("/")[1] for key in store.keys(sweep)}
    holders = (holder_of(store.at(key_of(sweep, name))) for name in names if is_of_sweep(name))
    return max((holder.epoch for holder in holders if holder), default=0)
