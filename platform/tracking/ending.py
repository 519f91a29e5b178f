"""How a training or a sweep ended, as its MLflow run says it.

A driver ends runs, or `advseg sync` in its stead; a worker never does.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from ...trainers.errors import BrokenEnvironmentError, FencedError


class State(StrEnum):
    """How a training or a sweep ended."""

    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"
    STOPPED = "STOPPED"
    """Not over: whoever goes on with it opens its run again."""


_STATUS = {
    State.COMPLETE: "FINISHED",
    State.PRUNED: "KILLED",
    State.FAIL: "FAILED",
    State.STOPPED: "KILLED",
}


@dataclass(frozen=True)
class Ending:
    """A state, and why it is so."""

    state: State
    reason: str = ""

    @property
    def status(self) -> str:
        """MLflow's status of the run."""
        return _STATUS[self.state]


def ending_of(error: BaseException) -> Ending:
    """How something ended that this broke off: an interrupt or a broken environment stops it, an error fails it."""
    if not isinstance(error, Exception):
        return Ending(State.STOPPED, "stopped from outside")
    state = State.STOPPED if isinstance(error, BrokenEnvironmentError) else State.FAIL
    return Ending(state, " ".join(str(error).split()))


@contextmanager
def ended_by(end: Callable[[Ending], None]) -> Iterator[None]:
    """Call `end` once with how the block ended; never when another process has taken over what it works on."""
    try:
        yield
    except FencedError:
        raise
    except BaseException as error:
        end(ending_of(error))
        raise
    end(Ending(State.COMPLETE))
