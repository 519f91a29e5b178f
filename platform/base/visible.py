"""Characters that a terminal acts upon or hides, made visible."""

import re

_HIDDEN = re.compile(
    # Control characters but tabs and ends of lines; what changes the direction of writing; tags; half characters.
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]|\r(?!\n)"
)


def visible(text: str) -> str:
    r"""A text whose control characters are written out, as in \u001b. JSON stays JSON, of the same meaning."""
    return _HIDDEN.sub(_escape, text)


def visible_line(text: str) -> str:
    """The same on one line."""
    return visible(text).replace("\r\n", "\n").replace("\n", "\\n").replace("\t", "\\t")


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
