"""Processes that work for this one, and end with it."""

import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread


def pool_of(processes: int) -> ProcessPoolExecutor:
    """So many processes. They end as soon as this one has, be it killed; Ctrl-C is left to it and to what they do."""
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent

    def wait_and_end() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait_and_end, name="parent", daemon=True).start()
