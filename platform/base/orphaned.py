"""What happens to a process whose parent is killed, where that parent is no program of ours."""

import os
import signal
import time
from threading import Thread

_POLL_S = 0.5


def stop_with_parent() -> None:
    """From now on this process gets a SIGTERM, as from its parent, once that has ended without it."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=watch, name="parent", daemon=True).start()
