"""How a command ends."""

import sys
from collections.abc import Callable

from ..trainers.errors import NonFiniteLossError, UserError


def exit_status(work: Callable[[], object]) -> int:
    """Run a command: 0 when it is done, 2 for a user's mistake, 1 for a diverged run, 130 when interrupted.

    What went wrong is one line on stderr.
    """
    try:
        work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except NonFiniteLossError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return 130
    return 0
