"""Where the local services and their data live, for commands."""

import os
from pathlib import Path

from ...models import home
from ...trainers.errors import UserError
from .addresses import is_address, shown


def find_home() -> Path:
    """The home folder, which need not exist yet, as `models.home` finds it. Raises UserError for an address."""
    named = os.environ.get(home.HOME, "")
    if is_address(named):
        raise UserError(f"ADVSEG_HOME is the address {shown(named)}, but must be a folder: name one of this machine")
    return home.find_home()
