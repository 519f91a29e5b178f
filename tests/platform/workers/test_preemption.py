"""What SIGTERM does, sent to this very process."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from advseg.platform.workers.preemption import asked_to_stop, listen, training

Install = Callable[[Any], None]


@pytest.fixture
def install() -> Iterator[Install]:
    """Puts a handler of SIGTERM in place, and the one that was there back at the end."""
    before = signal.getsignal(signal.SIGTERM)
    yield lambda handler: signal.signal(signal.SIGTERM, handler) and None
    signal.signal(signal.SIGTERM, before)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class TestWhileTraining:
    def test_it_asks_to_stop_and_ends_nothing(self, install: Install) -> None:
        install(lambda *_: pytest.fail("the handler before was called"))
        listen()
        with training():
            assert not asked_to_stop()
            terminate()
            assert asked_to_stop()

    def test_it_asks_a_training_in_another_thread(self, install: Install) -> None:
        """As Ray Train trains, for Python handles signals in the main thread alone."""
        install(lambda *_: pytest.fail("the handler before was called"))
        listen()
        began, sent, answers = threading.Event(), threading.Event(), []

        def train() -> None:
            with training():
                began.set()
                sent.wait(300)
                answers.append(asked_to_stop())

        thread = threading.Thread(target=train)
        thread.start()
        assert began.wait(300)
        terminate()
        sent.set()
        thread.join()
        assert answers == [True]

    def test_it_asks_that_training_only(self, install: Install) -> None:
        install(lambda *_: None)
        listen()
        with training():
            terminate()
        assert not asked_to_stop()
        with training():
            assert not asked_to_stop()

    def test_it_asks_though_a_process_listens_twice(self, install: Install) -> None:
        install(lambda *_: pytest.fail("the handler before was called"))
        listen()
        listen()
        with training():
            terminate()
            assert asked_to_stop()


class TestOtherwise:
    def test_the_handler_before_is_called(self, install: Install) -> None:
        calls: list[int] = []
        install(lambda signum, frame: calls.append(signum))
        listen()
        terminate()
        with training():
            pass
        terminate()
        assert calls == [signal.SIGTERM, signal.SIGTERM]
        assert not asked_to_stop()

    def test_the_handler_before_is_called_after_a_training_that_broke(self, install: Install) -> None:
        calls: list[int] = []
        install(lambda signum, frame: calls.append(signum))
        listen()
        with pytest.raises(ZeroDivisionError), training():
            raise ZeroDivisionError
        terminate()
        assert calls == [signal.SIGTERM]

    def test_a_process_that_had_no_handler_ends(self, install: Install) -> None:
        install(signal.SIG_DFL)
        listen()
        with pytest.raises(SystemExit) as caught:
            terminate()
        assert caught.value.code == 1

    def test_a_process_that_ignored_it_goes_on_to(self, install: Install) -> None:
        install(signal.SIG_IGN)
        listen()
        terminate()


PROGRAM = """
from advseg.platform.workers.preemption import asked_to_stop, listen, training
listen()
with training():
    print("training", flush=True)
    while not asked_to_stop():
        pass
print("saved", flush=True)
"""


def test_a_process_that_trains_ends_in_its_own_time() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "training\n"
        child.terminate()
        assert child.stdout.read() == "saved\n"
    assert child.returncode == 0
