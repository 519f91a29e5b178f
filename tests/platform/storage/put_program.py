"""Puts a folder into a store: `python put_program.py ADDRESS FOLDER KEY`."""

import sys
from pathlib import Path

from advseg.platform.storage.opening import open_store

if __name__ == "__main__":
    address, folder, key = sys.argv[1:]
    open_store(address).put(Path(folder), key)
