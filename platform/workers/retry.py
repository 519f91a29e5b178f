"""Whether a trial that broke is tried again: pure functions of how it broke and what it has been through."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from ...trainers.errors import DivergedError, UserError
from ..spec.retry import Retry
from .account import Account


class Kind(StrEnum):
    """How an attempt of a trial ended before its last step."""

    # The attempt's, and nobody's fault: another may do better.
    LOST = "worker lost"
    HUNG = "hung"
    PREEMPTED = "pre-empted"
    OUT_OF_MEMORY = "out of memory"
    # The environment's: disks, mounts, drivers, servers. It says nothing of the trial.
    ENVIRONMENT = "environment"
    # The driver's: another owns what it works on.
    FENCED = "fenced"
    # The trial's own.
    DIVERGED = "diverged"
    BAD_VALUE = "bad value"
    TIMEOUT = "timeout"
    ERROR = "error"

    @property
    def spares_the_process(self) -> bool:
        """Whether the process that it came about in may serve another trial."""
        return self in (Kind.DIVERGED, Kind.BAD_VALUE)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How an attempt ended, and in whose words."""

    kind: Kind
    text: str = ""

    def __str__(self) -> str:
        if self.kind in (Kind.ERROR, Kind.ENVIRONMENT):
            return self.text
        return f"{self.kind}: {self.text}" if self.text else str(self.kind)


@dataclass(frozen=True, kw_only=True)
class Again:
    """The trial is tried again from its newest checkpoint, with this account."""

    account: Account


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """The trial fails for this reason."""

    account: Account
    reason: str


def decide(failure: Failure, account: Account, retry: Retry, *, can_halve: bool) -> Again | GiveUp:
    """What becomes of a trial after a failure. `can_halve` says whether its micro-batch can be halved once more."""
    match failure.kind:
        case Kind.LOST | Kind.HUNG:
            account = replace(account, lost=account.lost + 1)
            if account.lost < retry.max_attempts:
                return Again(account=account)
            return GiveUp(
                account=account, reason=f"worker lost too often: {account.lost} times, at last {failure.text}"
            )
        case Kind.PREEMPTED | Kind.ENVIRONMENT:
            return Again(account=account)
        case Kind.OUT_OF_MEMORY if account.halvings == 0 and can_halve:
            return Again(account=replace(account, halvings=1))
        case _:
            return GiveUp(account=account, reason=str(failure))


def told_again(key: str, failure: Failure, pause_s: float) -> str:
    """What those who follow hear of a training that is tried again after some seconds."""
    when = f" in {pause_s:g} s" if pause_s else ""
    return f"{key} is tried again{when}: {failure}"


def can_halve(trainer: Mapping[str, Any], workers: int) -> bool:
    """Whether the micro-batches of a spec's trainer can be halved so that each still has an image for every worker."""
    sizes = trainer["batch_size"], trainer.get("unlabelled_batch_size") or trainer["batch_size"]
    parts = [size // trainer["accumulation"] for size in sizes]
    return all(part % 2 == 0 and part // 2 >= workers for part in parts)


def error_of(failure: Failure, reason: str) -> Exception:
    """What a job raises whose training was given up."""
    return DivergedError(reason) if failure.kind is Kind.DIVERGED else UserError(reason)
