"""Choosing ports of the loopback interface."""

import random
import socket
from collections.abc import Callable, Collection, Iterable

from ...trainers.errors import UserError

LOOPBACK = "127.0.0.1"
# Below the range from which Linux takes the ports of outgoing connections (32768 and up), so that none of
# those takes a port between its choice and its use.
SEARCHED = range(20_000, 32_000)
ALLOWED = range(1024, 65_536)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of the loopback interface now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def choose_port(
    *,
    option: str,
    asked: int | None,
    preferred: Iterable[int] = (),
    avoid: Collection[int] = (),
    free: Callable[[int], bool] = is_free,
) -> int:
    """The asked port; without one, the first free preferred port, else any free one.

    Never a port of `avoid`, which are promised to others but not yet in use.
    Raises UserError when the asked port cannot be had; `option` names where it was asked.
    """
    if asked is None:
        candidates = (*preferred, *random.sample(SEARCHED, len(SEARCHED)))
        for port in candidates:
            if port not in avoid and free(port):
                return port
        raise UserError(f"no port from {SEARCHED[0]} to {SEARCHED[-1]} is free: name one with {option}")
    if asked not in ALLOWED:
        raise UserError(f"{option} must be in [{ALLOWED[0]}, {ALLOWED[-1]}], but got {asked}")
    if asked in avoid or not free(asked):
        raise UserError(
            f"port {asked} is taken, and the port that {option} asks for must be free: "
            f"name another, or leave {option} out to have a free one chosen"
        )
    return asked
