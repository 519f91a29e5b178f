import pytest

from advseg.trainers.pictures import lettering
from advseg.trainers.pictures.lettering import LONGEST_NAME, font_for, lettered

NAMES = ["road", "Straße", "дорога", "δρόμος"]


def test_a_font_is_taken_that_has_all_letters() -> None:
    assert lettered(NAMES, font_for(NAMES, 13)) == NAMES


def test_english_needs_no_font_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_of_matplotlib", lambda: pytest.fail("it was looked for"))
    assert lettered(["road", "car (parked)"], font_for(["road", "car (parked)"], 13)) == ["road", "car (parked)"]


def test_without_one_a_name_is_its_number_and_no_row_of_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_of_matplotlib", lambda: iter(()))
    monkeypatch.setattr(lettering, "_SYSTEM_FONTS", ())
    assert lettered(NAMES, font_for(NAMES, 13)) == ["road", "class 1", "class 2", "class 3"]


def test_of_fonts_that_lack_some_the_one_that_lacks_least_is_taken() -> None:
    names = ["дорога", "\U0001f0a1\U0010fffd", "δρόμος"]
    assert lettered(names, font_for(names, 13)) == ["дорога", "class 1", "δρόμος"]


def test_a_long_name_is_cut() -> None:
    (name,) = lettered(["л" * 100], font_for(["л"], 13))
    assert name.endswith("л…")
    assert font_for(["л"], 13).getlength(name) <= LONGEST_NAME
