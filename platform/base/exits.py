"""How a command ends."""

import errno
import os
import shlex
import sys
from collections.abc import Callable

from ...trainers.errors import (
    BrokenEnvironmentError,
    DivergedError,
    FencedError,
    FruitlessError,
    IncompleteError,
    LostProcessError,
    NotReproducedError,
    PreemptedError,
    UserError,
)

EXTRAS = {
    "platform": ("boto3", "detect_secrets", "mlflow", "optuna", "plotly", "psutil", "ray"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "hub": ("httpx2", "huggingface_hub"),
    "transformers": ("transformers",),
}
"""What `pip install advseg` leaves out, by the extra that brings it, as in `advseg[platform]`."""

_REMEDIES = {
    errno.ENOSPC: "make room on its disk, or name a place on another",
    errno.EDQUOT: "make room within your quota, or name a place elsewhere",
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`), or name a place on another file system",
    errno.EROFS: "name a place elsewhere",
    errno.EACCES: "ask for the right to it, or name another",
    errno.EPERM: "ask for the right to it, or name another",
    errno.EISDIR: "name a file in it",
    errno.ENOTDIR: "a part of its path is a file: name another",
    errno.EEXIST: "remove it, or name another",
    errno.ENAMETOOLONG: "shorten its name",
    errno.ELOOP: "mend its links, which lead in a circle",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "end other programs, or raise this machine's limit on open files",
    errno.EIO: "its disk, or the way to it, fails: name a place on another",
}
"""What to do about errors that files cause, by their numbers."""
_FAILURES = (
    DivergedError,
    FencedError,
    BrokenEnvironmentError,
    FruitlessError,
    IncompleteError,
    LostProcessError,
    NotReproducedError,
)
_TORCHRUN = "TORCHELASTIC_RUN_ID"
"""Is in the environment of what torchrun has started, which does not know by which command."""
_LONGEST = 4000
"""Characters of a line that are printed of a message."""


def exit_status(work: Callable[[], object]) -> int:
    """Run a command and return its exit status, on which scripts can rely.

    - 0: it is done.
    - 1: the job failed: a run that diverged or that another process took over, a sweep without one complete trial, one
      that stopped as its disks, drivers or servers fail; a job on the cluster, for who follows it or waits for it, that
      failed or was stopped; a model that is not reproduced; images without a mask, for they cannot be read
      or it cannot be put in its place; storage in S3 that fails. A bug ends with 1, too, and a traceback.
    - 2: a mistake of the user's, in the command line, a spec, a dataset, or a service that cannot be reached.
    - 130: it was interrupted. A training on this machine is saved first, on SIGTERM, too; a second Ctrl-C does not
      wait.
    - 141: nobody reads what it prints any more, as behind `| head`.

    What went wrong is one line on stderr. A file that cannot be read or written is the user's to mend.
    """
    try:
        return _status(work)
    finally:
        _flush()


def _status(work: Callable[[], object]) -> int:
    try:
        work()
    except UserError as error:
        return _fail(f"error: {error}", 2)
    except OSError as error:
        if error.filename is None and error.errno not in _REMEDIES:
            raise
        return _fail(f"error: {of_file(error)}", 2)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        extra = next((extra for extra, packages in EXTRAS.items() if missing in packages), None)
        if extra is None:
            raise
        return _fail(f"error: this command needs {missing}: pip install 'advseg[{extra}]'", 2)
    except _FAILURES as error:
        return _fail(f"error: {error}", 1)
    except PreemptedError as error:
        again = "the same command" if _TORCHRUN in os.environ else f"`{shlex.join(['advseg', *sys.argv[1:]])}`"
        return _fail(f"interrupted: {error}; {again} goes on", 130)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def _flush() -> None:
    """Print what waits to be. Raises SystemExit where that cannot be done, as on a full disk."""
    try:
        sys.stdout.flush()
    except OSError as error:
        sys.exit(_fail(f"error: {of_file(error)}", 2))


def of_file(error: OSError) -> str:
    """The file that an error is about, if it is known, what is wrong with it, and what to do, in one line."""
    # Of a file that was to take another's place, that one is what the user knows.
    name = error.filename if error.filename2 is None else error.filename2
    parts = (name, error.strerror or error, _REMEDIES.get(error.errno or 0))
    return ": ".join(str(part) for part in parts if part is not None)


def _fail(message: str, status: int) -> int:
    lines = (line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…" for line in message.split("\n"))
    print("\n".join(lines), file=sys.stderr, flush=True)
    return status
