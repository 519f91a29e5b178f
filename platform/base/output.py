"""Where a command's output leaves it: what is printed there can neither steer a terminal nor break the command."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from .visible import visible

CLOSED = 141
"""Exit status of a command whose reader went away, as in `| head`: that of SIGPIPE, as of other programs."""


class _Guarded:
    """A stream that ends the command quietly once nobody reads it, and that writes what its encoding lacks as escapes.

    It is named in errors such as that of a full disk.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        """Raises SystemExit where nobody reads any more, and OSError with the stream's name."""
        with self._guarded():
            try:
                return self._stream.write(text)
            except UnicodeEncodeError as error:
                return self._stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))

    def writelines(self, lines: Iterable[str]) -> None:
        """`write` of each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Raises as `write` does."""
        with self._guarded():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            # Whatever is left in the buffer has to go somewhere when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            raise SystemExit(CLOSED) from None
        except OSError as error:
            error.filename = self._name
            raise


class _Visible(_Guarded):
    """The same for everything but rich, whose own control characters are meant, and which finds the stream below."""

    def __init__(self, stream: _Guarded, name: str) -> None:
        super().__init__(cast("TextIO", stream), name)
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """As it is read, and not as it might be meant."""
        super().write(visible(text))
        return len(text)


def guard_output() -> None:
    """Guard standard output and errors from here on. Tracebacks pass there, too, so nothing undoes it."""
    for name, words in (("stdout", "standard output"), ("stderr", "standard error")):
        stream = getattr(sys, name)
        if not isinstance(stream, _Visible):
            setattr(sys, name, _Visible(_Guarded(stream, words), words))
