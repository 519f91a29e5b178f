"""What an attempt has cost, as its heartbeat tells it."""

from dataclasses import replace
from pathlib import Path

from ..spec.resources import Resources
from .account import Account
from .heartbeat import Beat, beat_of


def account_now(account: Account, directory: Path, storage: Path, resources: Resources, *, again: bool) -> Account:
    """An account with the newest attempt counted in, and the newest checkpoint in the training's directory.

    `again` says that more is to come.
    """
    # PyTorch, for which a driver that starts workers does not wait.
    from ...models.manifest import checksum_of
    from ...trainers.checkpoint import CHECKPOINTS, newest_sealed

    sealed = newest_sealed(directory / CHECKPOINTS)
    account = counted(account, beat_of(directory, account.attempts), sealed, resources, again)
    if sealed is None:
        return account
    return replace(account, checkpoint=str(sealed[1].relative_to(storage)), checksum=checksum_of(sealed[1]))


def counted(
    account: Account, beat: Beat | None, sealed: tuple[int, Path] | None, resources: Resources, again: bool
) -> Account:
    """An account with the newest attempt's cost in it, once, as its heartbeat tells it.

    `sealed` is the newest checkpoint; if the trial is tried `again`, the steps after it were lost.
    """
    if beat is None or account.counted == beat.attempt:
        return account
    lost_steps = max(0, beat.step - (sealed[0] if sealed else 0)) if again else 0
    return replace(
        account,
        counted=beat.attempt,
        device_seconds=account.device_seconds + beat.seconds * resources.devices,
        lost_steps=account.lost_steps + lost_steps,
        run_id=beat.run_id or account.run_id,
    )
