"""Names of metrics and parameters as MLflow takes them, and back. What is refused in a name is written `_x<hex>_`."""

import re

_REFUSED = re.compile(
    r"[^/\w.\- :]"
    r"|_(?=x[0-9a-f])"  # It would be read as the beginning of what stands for a character.
    # MLflow takes only what is a path in its shortest form, and does not lead out of its folder.
    r"|\A/|(?<=/)/|/\Z"
    r"|\A\.(?=\.)|(?<![^/])\.(?=\.?(?![^/]))"
)
_WRITTEN = re.compile(r"_x([0-9a-f]+)_")


def escaped(name: str) -> str:
    """A name as MLflow takes it: `road (wet)` is `road _x28_wet_x29_`. Different names stay different."""
    return _REFUSED.sub(lambda found: f"_x{ord(found[0]):x}_", name)


def unescaped(name: str) -> str:
    """The name that `escaped` was given."""
    return _WRITTEN.sub(_character, name)


def _character(found: re.Match[str]) -> str:
    try:
        return chr(int(found[1], 16))
    except (ValueError, OverflowError):
        return found[0]  # No character; another program's name.
