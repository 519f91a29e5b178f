"""The folder in which a machine keeps copies of what lies elsewhere, named by their content."""

from pathlib import Path

from platformdirs import user_cache_path


def cache_folder(kind: str) -> Path:
    """That for one kind of copies: under `XDG_CACHE_HOME`, by default `~/.cache`. It may be deleted at any time."""
    return user_cache_path("advseg") / kind
