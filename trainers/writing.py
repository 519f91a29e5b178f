"""What is written while a training goes on: in a thread, one thing at a time, and never unheard of."""

import logging
from collections.abc import Callable
from threading import Thread
from types import TracebackType

from ..models.files import one_line

log = logging.getLogger(__name__)


class Writing:
    """At most one thing is being written. As a context, it ends once that is done, however the work within ended.

    An error of the work within comes up, and a warning says what broke the writing; else that is raised.
    """

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def begin(self, write: Callable[[], object]) -> None:
        """Begin to write, in a thread, what must not change meanwhile. Waits for what is being written, as `wait`."""
        self.wait()

        def run() -> None:
            try:
                write()
            except BaseException as error:
                self._error = error

        # No daemon: an interpreter that ends lets it come to its end.
        self._thread = Thread(target=run, name="writing")
        self._thread.start()

    def look(self) -> None:
        """Raise what the writing has raised, if it has ended so."""
        if self._thread and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Wait until what is being written is there. Raises what the writing raises, once."""
        if broke := self._ended():
            raise broke

    def _ended(self) -> BaseException | None:
        """Wait, and return what the writing has raised, once."""
        if self._thread:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        return error

    def __enter__(self) -> None:
        """Nothing is begun by this."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None or isinstance(error, GeneratorExit):
            self.wait()
        elif broke := self._ended():
            log.warning("what was being written meanwhile broke: %s: %s", type(broke).__name__, one_line(broke))
