"""What these programs need to know of Markdown: text that is no HTML, links, and the anchors of headings."""

import re
from collections.abc import Iterator
from pathlib import Path

_FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def escaped(text: str) -> str:
    """A text, perhaps with `code` in it, in which `<name>` is no HTML."""
    parts = text.split("`")
    return "`".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(parts))


def link_targets(text: str) -> Iterator[str]:
    """What the links and pictures of a page lead to, code apart."""
    prose = _CODE.sub("``", _FENCED.sub("", text))
    for match in _LINK.finditer(prose):
        yield match[1]


def anchors(text: str) -> set[str]:
    """The names by which links lead to a page's headings."""
    return {anchor(title) for title in _HEADING.findall(_FENCED.sub("", text))}


def anchor(title: str) -> str:
    """The name by which links lead to a heading, as GitHub and the site make it."""
    return re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-")


def broken_links(page: Path) -> list[str]:
    """Links of a page that lead to no file or to no heading. Addresses on the web are taken as they are."""
    broken = []
    for target in link_targets(page.read_text()):
        name, _, place = target.partition("#")
        path = page.parent / name if name else page
        if target.startswith(("https://", "http://")):
            continue
        if not path.exists() or (place and place not in anchors(path.read_text())):
            broken.append(f"{page.name}: {target}")
    return broken
