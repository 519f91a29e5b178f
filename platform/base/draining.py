"""Ray's drain notice: a node that is about to be taken away is said to drain, to whoever asks.

Ray itself only places nothing more there. Whoever drains a node takes it after the seconds that the notice gives, at
once if nothing works on it any more.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager

from ray._private.state import state

_LOOK_S = 2.0
"""Of notices, the shortest that are usual give 30 s."""


def draining_nodes() -> Mapping[str, int]:
    """When the nodes that drain are taken away, by Ray's ids; none if Ray does not say."""
    try:
        return state.get_draining_nodes()
    except Exception:
        # A head that is away, or another version of Ray. The work goes on; SIGTERM may yet come.
        return {}


@contextmanager
def heard(
    nodes: Set[str],
    tell: Callable[[], None],
    look: Callable[[], Mapping[str, int]] = draining_nodes,
    look_s: float = _LOOK_S,
) -> Iterator[None]:
    """Meanwhile `tell` is called, once and from a thread, as soon as one of these nodes drains."""
    ended = threading.Event()

    def listen() -> None:
        while not ended.is_set():
            if not nodes.isdisjoint(look()) and not ended.is_set():
                tell()
                return
            ended.wait(look_s)

    if nodes:
        threading.Thread(target=listen, name="drain notice", daemon=True).start()
    try:
        yield
    finally:
        # Not waited for: a head that is gone keeps it for a minute.
        ended.set()
