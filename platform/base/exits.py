"""How a command ends."""

import sys
from collections.abc import Callable

from ...trainers.errors import BrokenEnvironmentError, DivergedError, FencedError, FruitlessError, UserError

EXTRA = ("boto3", "detect_secrets", "mlflow", "optuna", "plotly", "psutil", "ray")
"""What `pip install advseg` leaves out and `advseg[platform]` brings."""


def exit_status(work: Callable[[], object]) -> int:
    """Run a command and return its exit status, on which scripts can rely.

    - 0: it is done.
    - 1: the job failed: a run that diverged or that another process took over, a sweep without one complete trial, one
      that stopped as its disks, drivers or servers fail; a job on the cluster, for who follows it or waits for it, that
      failed or was stopped. A bug ends with 1, too, and a traceback.
    - 2: a mistake of the user's, in the command line, a spec, a dataset, or what cannot be reached.
    - 130: it was interrupted.

    What went wrong is one line on stderr. A file that cannot be read or written is the user's to mend.
    """
    try:
        work()
    except UserError as error:
        return _fail(f"error: {error}", 2)
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"error: {error.filename}: {error.strerror}", 2)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRA:
            raise
        return _fail(f"error: this command needs {missing}: pip install 'advseg[platform]'", 2)
    except (DivergedError, FencedError, BrokenEnvironmentError, FruitlessError) as error:
        return _fail(f"error: {error}", 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def _fail(line: str, status: int) -> int:
    print(line, file=sys.stderr, flush=True)
    return status
