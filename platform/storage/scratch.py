"""Where Ray may keep what nobody reads again."""

import os
import tempfile
from pathlib import Path

from ..base.keys import JOB
from .store import Store


def scratch_of(store: Store, name: str) -> Path:
    """A folder for as long as this process's job, which has a name, runs: of the store, or else of this machine."""
    root = store.folder or Path(tempfile.gettempdir()) / f"advseg.{os.getuid()}"
    return root / ".scratch" / name / os.environ.get(JOB, "alone")
