import threading
from contextlib import closing

import pytest

from advseg.trainers.ahead import ahead


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_everything_comes_once_and_in_order(threads):
    assert list(ahead(lambda step: step**2, range(5, 25), threads)) == [step**2 for step in range(5, 25)]


@pytest.mark.parametrize("threads", [1, 3])
def test_the_next_ones_are_made_while_the_caller_works_on_one(threads):
    begun = {step: threading.Event() for step in range(10)}

    with closing(ahead(lambda step: begun[step].set(), range(10), threads)) as results:
        next(results)

        # This would hang if nothing were made before it is asked for.
        assert all(begun[step].wait(300) for step in range(1, threads + 1))


def test_without_threads_nothing_is_made_before_it_is_asked_for():
    made = []

    results = ahead(made.append, range(5), 0)
    next(results)

    assert made == [0]


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_comes_when_its_step_comes(threads):
    def make(step: int) -> int:
        if step == 2:
            raise OSError("gone")
        return step

    results = ahead(make, range(5), threads)

    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_closing_ends_the_threads():
    before = threading.active_count()
    with closing(ahead(lambda step: step, range(10**9), 4)) as results:
        next(results)
        assert threading.active_count() > before

    assert threading.active_count() == before
