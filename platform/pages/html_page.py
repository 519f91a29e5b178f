"""Pages for a browser that need nothing beside themselves: no network, no fonts, no storage, only scripts."""

import base64
from collections.abc import Collection, Iterable, Sequence
from html import escape as escape_markup
from pathlib import Path
from typing import TYPE_CHECKING

from ...trainers.errors import UserError
from ...trainers.whole_file import write_whole
from ..base.visible import visible

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

FOUR_DIGITS = ".4~g"
"""How plots tell a value to whom points at it."""
_COLUMN = 150
"""Width in pixels of one of several axes side by side."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 1200px; margin: 0 auto;
       padding: 24px; overflow-wrap: anywhere; }
h1 { font-size: 26px; margin: 0; } h2 { font-size: 19px; margin: 36px 0 6px; }
p { margin: 6px 0; } p.note { color: #666; font-size: 13px; }
.wide { overflow-x: auto; overflow-wrap: normal; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; border-bottom: 1px solid #e4e4e4; text-align: right; vertical-align: top; }
th { border-bottom-color: #999; } .text { text-align: left; overflow-wrap: anywhere; } td.text { min-width: 90px; }
td.text:first-child { overflow-wrap: normal; }
.pictures { display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start; }
figure { margin: 6px 0; } img { max-width: 100%; } figcaption { color: #666; font-size: 13px; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """A whole document of parts that are HTML already; plotly.js is in it once."""
    # Plotly takes half a second to import.
    from plotly.offline import get_plotlyjs

    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{_STYLE}</style>",
            f"<script>{get_plotlyjs()}</script></head><body><h1>{escape(title)}</h1>",
            *parts,
            "</body></html>\n",
        ]
    )


def write_page(path: Path, text: str) -> None:
    """Put a page in the place of a file, at once. Raises UserError if the path is a folder's."""
    if path.is_dir():
        raise UserError(f"{path} must be a file, but is a folder: name a file in it, as in {path / 'page.html'}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)


def heading(text: str) -> str:
    """The title of a section."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """A sentence."""
    return f"<p>{escape(text)}</p>"


def note(text: str) -> str:
    """A sentence for those who look closely; nothing if it is empty."""
    return f'<p class="note">{escape(text)}</p>' if text else ""


def link(text: str, address: str) -> str:
    """A sentence that leads elsewhere when it is clicked."""
    return f'<p><a href="{escape(address)}">{escape(text)}</a></p>'


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], words: Collection[str] = ()) -> str:
    """A table of cells, flush right but for the columns whose headings are in `words`."""
    classes = [' class="text"' if name in words else "" for name in headings]
    head = _row("th", headings, classes)
    body = "\n".join(_row("td", cells, classes) for cells in rows)
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def plot(figure: "Figure", name: str) -> str:
    """A figure as wide as the page in an element of that id; its height in pixels is its layout's.

    It scrolls in itself where axes side by side have no room.
    """
    figure.update_layout(
        template="plotly_white",
        title=None,
        width=None,
        autosize=True,
        margin={"l": 60, "r": 30, "t": 40, "b": 50},
        # Beside the plot it would take half of a phone's width.
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"},
        font={"family": "system-ui, sans-serif", "size": 12},
    )
    figure.update_yaxes(hoverformat=FOUR_DIGITS)
    config = {"responsive": True, "displaylogo": False}
    drawn = figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config, validate=False)
    return f'<div class="wide"><div style="min-width: {_COLUMN * _columns(figure)}px">{drawn}</div></div>'


def _columns(figure: "Figure") -> int:
    """How many axes are side by side: of plots, or of parallel coordinates, which are ticks of one axis."""
    return max(len(list(figure.select_xaxes())), len(figure.layout.xaxis.ticktext or ()))


def pictures(found: Iterable[tuple[str, bytes]]) -> str:
    """What PNG files hold, with captions, side by side where there is room."""
    return f'<div class="pictures">{"".join(_picture(caption, content) for caption, content in found)}</div>'


def _picture(caption: str, content: bytes) -> str:
    data = base64.b64encode(content).decode()
    text = escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def escape(text: str) -> str:
    """A text in which nothing is markup or hides."""
    return escape_markup(visible(text))


def _row(tag: str, cells: Sequence[str], classes: Sequence[str]) -> str:
    joined = "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, classes, strict=True))
    return f"<tr>{joined}</tr>"
