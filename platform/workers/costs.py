"""What an attempt has cost, as its heartbeat tells it."""

from dataclasses import replace

from ..spec.resources import Resources
from ..storage.store import Store
from .account import Account
from .checkpoints import Sealed, checksum_of, newest_sealed
from .heartbeat import Beat, beat_of


def account_now(account: Account, store: Store, key: str, resources: Resources, *, again: bool) -> Account:
    """An account with the newest attempt counted in, and the newest checkpoint of the training with a key in a store.

    `again` says that more is to come.
    """
    own = store.at(key)
    sealed = newest_sealed(own)
    account = counted(account, beat_of(own, account.attempts), sealed, resources, again)
    if sealed is None:
        return account
    return replace(account, checkpoint=f"{key}/{sealed.key}", checksum=checksum_of(own, sealed))


def counted(account: Account, beat: Beat | None, sealed: Sealed | None, resources: Resources, again: bool) -> Account:
    """An account with the newest attempt's cost in it, once, as its heartbeat tells it.

    `sealed` is the newest checkpoint; if the trial is tried `again`, the steps after it were lost.
    """
    if beat is None or account.counted == beat.attempt:
        return account
    lost_steps = max(0, beat.step - (sealed.step if sealed else 0)) if again else 0
    return replace(
        account,
        counted=beat.attempt,
        device_seconds=account.device_seconds + beat.seconds * resources.devices,
        lost_steps=account.lost_steps + lost_steps,
        images_per_second=beat.images_per_second or account.images_per_second,
        run_id=beat.run_id or account.run_id,
    )
