"""How a command ends."""

import sys
from collections.abc import Callable

from ..trainers.errors import UserError


def exit_status(work: Callable[[], object]) -> int:
    """Run a command: 0 when it is done; for a user's mistake its line on stderr and 2; 130 when interrupted."""
    try:
        work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        return 130
    return 0
