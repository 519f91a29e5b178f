"""Builds a site of README.md, docs/ and all that they link to. `make docs` runs it; it needs no network."""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from markup import link_targets

ROOT = Path(__file__).parent.parent
CONFIG, STYLE = "zensical.toml", "site.css"


def build(folder: Path) -> Path:
    """Build the site in a folder, whatever was there, and return its start page. Raises CalledProcessError."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in reachable([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "docs" / STYLE]):
        copy = folder / "pages" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    shutil.copy(ROOT / "docs" / CONFIG, folder / CONFIG)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(folder / CONFIG)]
    subprocess.run(command, check=True)
    return folder / "site" / "index.html"


def reachable(pages: Iterable[Path]) -> set[Path]:
    """The files that pages are, lead to, and lead to through other pages."""
    found: set[Path] = set()
    waiting = [page.resolve() for page in pages]
    while waiting:
        path = waiting.pop()
        if path not in found and path.is_file():
            found.add(path)
            if path.suffix == ".md":
                targets = (target.partition("#")[0] for target in link_targets(path.read_text()))
                waiting += [(path.parent / target).resolve() for target in targets if target and ":" not in target]
    return found


if __name__ == "__main__":
    print(f"start at {build(ROOT / 'build' / 'docs')}")
