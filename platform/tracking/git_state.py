"""What git says of the code that travels with a job, without the secrets in it."""

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from detect_secrets.core.scan import scan_line
from detect_secrets.settings import default_settings

FILE = "git.json"
"""Where a job has it, beside its spec; absent if the code lay in no repository."""
_ENTROPY = ("Base64HighEntropyString", "HexHighEntropyString")
"""Detectors that take every digest, and many a name, for a secret."""
_UNQUOTED = re.compile(
    r"(?i)((?:password|passwd|secret|token|api_?key|access_?key)\w*:\s*)(?=\S{8})[^\s\"'()]*\d[^\s\"'()]*"
)
"""A secret as YAML may hold it; the detectors look for quotes."""
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY.*?(?:-----END [A-Z ]*PRIVATE KEY[A-Z ]*-----|\Z)", re.DOTALL)
"""A key with all of its lines; the detectors see its first alone."""
_LONGEST_DIFF = 2_000_000
"""Characters of a diff that are kept."""


@dataclass(frozen=True, kw_only=True)
class GitState:
    """What git says of a folder."""

    commit: str
    branch: str
    diff: str
    """Of tracked files against the commit, secrets redacted, after the names of files that git does not know."""


def git_state(folders: Sequence[Path]) -> GitState | None:
    """The state of the repository that holds these folders, as far as it concerns them; None if none does."""
    commit = _git(folders[0], "rev-parse", "HEAD")
    if commit is None:
        return None
    places = [str(folder) for folder in folders]
    changed = _git(folders[0], "diff", "HEAD", "--", *places) or ""
    unknown = _git(folders[0], "ls-files", "--others", "--exclude-standard", "--full-name", "--", *places) or ""
    named = "".join(f"# not in git: {name}\n" for name in unknown.splitlines())
    return GitState(
        commit=commit.strip(),
        branch=(_git(folders[0], "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        diff=named + redact(changed[:_LONGEST_DIFF]),
    )


def redact(text: str) -> str:
    """A text with what looks like passwords, tokens and keys replaced by `***`."""
    text = _PRIVATE_KEY.sub("***", text)
    with default_settings() as settings:
        settings.disable_plugins(*_ENTROPY)
        return "".join(map(_redacted, text.splitlines(keepends=True)))


def _redacted(line: str) -> str:
    for value in sorted({secret.secret_value or "" for secret in scan_line(line)} - {""}, key=len, reverse=True):
        line = line.replace(value, "***")
    return _UNQUOTED.sub(r"\1***", line)


def _git(folder: Path, *arguments: str) -> str | None:
    """What a git command prints; None if it fails, or there is no git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, errors="replace", timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def write_git_state(folder: Path, state: GitState) -> None:
    """Put it in a job's folder."""
    (folder / FILE).write_text(json.dumps(asdict(state)))


def read_git_state(folder: Path) -> GitState | None:
    """That of a job's folder, if there is one."""
    path = folder / FILE
    return GitState(**json.loads(path.read_text())) if path.exists() else None
