"""Work that is done ahead of time, in threads, without changing what comes of it."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(make: Callable[[int], T], steps: range, threads: int) -> Generator[T]:
    """`make` of each step in turn; while the caller works on one, threads make the next ones, one each.

    Raises what `make` raises, when its step comes. Close the iterator to end the threads. Without threads, each is
    made when it is asked for.
    """
    if not threads:
        yield from map(make, steps)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    waiting: deque[Future[T]] = deque()
    try:
        for step in steps:
            waiting.append(pool.submit(make, step))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
