"""Addresses of stores and databases: which texts are some, and what of one may be shown."""

import re
from urllib.parse import unquote

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_SECRET = re.compile(r"(pass(?!file)|pwd|secret|token|signature|accesskey|credential)[\w-]*\s*=", re.IGNORECASE)
_PRIVATE = re.compile(rf"[?#;]|{_SECRET.pattern}", re.IGNORECASE)
"""Where the part of an address begins that may hold a secret."""
_HIDDEN = "..."


def is_address(text: str) -> bool:
    """Whether a text begins as an address does, and not as the path of a file; one slash is all that a path keeps."""
    return _SCHEME.match(text) is not None


def shown(address: str) -> str:
    """An address without what may be a secret, in whatever way it is written: what stands before an @,
    after a ?, or by the name of one."""
    plain = _unquoted(address)
    scheme, slashes, rest = plain.partition("//")
    if not slashes or not re.fullmatch(r"[A-Za-z0-9+.-]*:?", scheme):
        scheme, rest = "", plain
        # Neither address nor name: perhaps `host=... password=...`.
        if re.search(r"[:=\s]", plain.rpartition("@")[2]):
            return _HIDDEN
    user, at, place = rest.rpartition("@")
    if re.search(r"[?#;=]", user):
        return f"{scheme}{slashes}{_HIDDEN}"
    return f"{scheme}{slashes if scheme else ''}{_HIDDEN + at if at else ''}{_PRIVATE.split(place)[0]}"


def holds_secret(address: str) -> bool:
    """Whether an address holds a password, key or signature, in whatever way it is written."""
    plain = _unquoted(address)
    user = plain.partition("//")[2].rpartition("@")[0]
    return ":" in user or _SECRET.search(plain) is not None


def _unquoted(text: str) -> str:
    """Without percent signs' escapes, which may hold others."""
    while (plain := unquote(text)) != text:
        text = plain
    return text
