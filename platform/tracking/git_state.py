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
_SECRET = r"(?:password|passwd|passphrase|secret|token|api_?key|access_?key|credentials?)"
_RULES = [
    re.compile(rule)
    for rule in (
        # As YAML may hold it; the detectors look for quotes.
        rf"(?i)({_SECRET}\w*:\s*)(?=\S{{8}})[^\s\"'()]*\d[^\s\"'()]*",
        # As a shell or a file of variables holds it; what begins with $ is read from elsewhere.
        rf"\b([A-Z0-9_]*{_SECRET.upper()}[A-Z0-9_]*=)"
        r"(?!=|[\"']?\$)(?:\"[^\"]*\"|'[^']*'|[^\s\"']+)",
        # The same in lower case, where it is no keyword argument.
        rf"(?i)({_SECRET}\w*=)(?!=|[\"']?\$)[^\s\"'(),;\[\]{{}}]+(?=\s|$|&)",
        # A header.
        r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?(?:bearer|basic|token)\s+)[^\s\"'{}]+",
        r"(?i)(\bbearer\s+)(?=\S*\d)[\w.~+/=-]{8,}",
        # What services begin their keys with: Hugging Face, OpenAI and the like, GitHub, GitLab, Slack, PyPI, npm, AWS.
        r"()\b(?:hf_[A-Za-z0-9]{16,}|sk-(?=[\w-]*\d)[\w-]{16,}|gh[opsru]_[A-Za-z0-9]{16,}|github_pat_\w{16,}"
        r"|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}|pypi-[\w-]{16,}|npm_[A-Za-z0-9]{16,}|(?:AKIA|ASIA)[A-Z0-9]{12,})",
        # An address with a password.
        r"(://[^/\s:@\"'{}]*:)[^/\s@\"'{}]+(?=@)",
    )
]
"""Secrets that the detectors miss, or see the beginning of alone; the first group stays."""
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
    """The state of the repository that tracks these folders, as far as it concerns them; None if none does."""
    commit = _git(folders[0], "rev-parse", "HEAD")
    places = [str(folder) for folder in folders]
    # A package in somebody's environment may lie in their repository, which does not track it.
    if commit is None or not all(_git(folders[0], "ls-files", "--", place) for place in places):
        return None
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
    for rule in _RULES:
        line = rule.sub(r"\1***", line)
    for value in sorted({secret.secret_value or "" for secret in scan_line(line)} - {""}, key=len, reverse=True):
        line = line.replace(value, "***")
    return line


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
