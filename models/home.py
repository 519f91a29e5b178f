"""Where the local services and their data live."""

import os
from pathlib import Path

HOME = "ADVSEG_HOME"
"""Environment variable that names the folder."""
FOLDER = ".advseg"


def find_home(start: Path | None = None) -> Path:
    """The absolute path of the home folder, which need not exist yet.

    `ADVSEG_HOME` if it is set; else the nearest `.advseg` in `start` (default: the working folder) or above
    it; else `start/.advseg`. The search stops below the user's home folder and the filesystem's root, whose
    `.advseg` counts only when `start` is that very folder.
    """
    if named := os.environ.get(HOME):
        return Path(named).expanduser().resolve()
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if folder != start and folder in (Path.home().resolve(), Path(folder.anchor)):
            break
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
    return start / FOLDER
