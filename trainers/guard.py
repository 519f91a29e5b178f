"""What may keep a training from going on: it is another process's now, or its machine is about to go away."""

from typing import Protocol


class Guard(Protocol):
    """Watches over a training."""

    def check(self) -> None:
        """Raise FencedError if the training's directory belongs to another process. Asked before each write to it."""
        ...

    def asked_to_stop(self) -> bool:
        """Whether the training is to save and end. Asked after every step."""
        ...


class Unguarded:
    """For a training that nobody else touches."""

    def check(self) -> None:
        """Nothing to check."""

    def asked_to_stop(self) -> bool:
        """Never."""
        return False
