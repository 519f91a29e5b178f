import json

from hypothesis import given
from hypothesis import strategies as st

from advseg.platform.base.visible import visible, visible_line

TEXTS = st.text(st.characters(), max_size=50)


@given(TEXTS)
def test_no_terminal_acts_upon_what_is_visible(text: str) -> None:
    shown = visible(text)
    assert not [c for c in shown if ord(c) < 32 and c not in "\t\r\n"]
    assert "\r" not in shown.replace("\r\n", "")
    assert not set(shown) & {
        *map(chr, range(0x7F, 0xA0)),
        *"\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u200f\u200e\u061c",
    }
    # No half character: every stream can encode it.
    shown.encode()


@given(TEXTS)
def test_what_is_visible_stays_as_it_is(text: str) -> None:
    assert visible(visible(text)) == visible(text)
    assert visible("mIoU 3,5 % ± ё 中 🙂\tx\r\ny\n") == "mIoU 3,5 % ± ё 中 🙂\tx\r\ny\n"


@given(st.dictionaries(TEXTS, TEXTS))
def test_json_keeps_its_meaning(document: dict[str, str]) -> None:
    assert json.loads(visible(json.dumps(document))) == document


def test_a_control_character_is_written_out() -> None:
    assert visible("\x1b[31mred\x7f\u202e") == "\\u001b[31mred\\u007f\\u202e"
    assert visible("photo-\udcff.png") == "photo-\\udcff.png"
    assert visible("half\rbad") == "half\\u000dbad"


def test_a_line_is_one() -> None:
    assert visible_line("a\nb\tc\r\nd") == "a\\nb\\tc\\nd"
