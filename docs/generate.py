"""Writes the pages that are made from the code, commands.md and spec.md. `make docs` runs it."""

from pathlib import Path

from command_page import command_page
from spec_page import spec_page

HERE = Path(__file__).parent
PAGES = {"commands.md": command_page, "spec.md": spec_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
        print(f"written {HERE / name}")
