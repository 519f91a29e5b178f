from pathlib import Path

import pytest

from advseg.trainers.data.classes import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_LABEL_IDS,
    CITYSCAPES_PALETTE,
    VOC_CLASSES,
    ClassTable,
    complete_palette,
    read_classes,
)
from advseg.trainers.data.images import voc_palette

SKY_AND_SEA = "- {name: sky, colour: [70, 130, 180]}\n- {name: sea, colour: [0, 0, 142]}\n"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "classes.yaml"


def test_voc_has_21_classes_and_cityscapes_19_with_a_colour_and_a_label_id_each():
    assert (len(VOC_CLASSES), VOC_CLASSES[15]) == (21, "person")
    assert (len(CITYSCAPES_CLASSES), CITYSCAPES_CLASSES[13]) == (19, "car")
    assert len(set(CITYSCAPES_PALETTE)) == len(set(CITYSCAPES_LABEL_IDS)) == 19


def test_names_and_colours_are_in_the_order_of_the_ids(path):
    path.write_text(SKY_AND_SEA)

    assert read_classes(path) == (
        ClassTable(names=("sky", "sea"), colours=((70, 130, 180), (0, 0, 142)), ignored=()),
        [],
    )


def test_an_ignored_entry_is_no_class(path):
    path.write_text("- {name: border, colour: [255, 255, 255], ignore: true}\n" + SKY_AND_SEA)

    table, _ = read_classes(path)

    assert table is not None
    assert (table.names, table.ignored) == (("sky", "sea"), ((255, 255, 255),))


def test_classes_need_no_colours(path):
    path.write_text("- name: sky\n- name: sea\n")

    assert read_classes(path) == (ClassTable(names=("sky", "sea"), colours=(), ignored=()), [])


def test_values_stand_for_classes_and_for_what_is_ignored(path):
    path.write_text("- {name: sky, value: 7}\n- {name: sea, value: [0, 300]}\n- {name: edge, value: 9, ignore: true}\n")

    table, _ = read_classes(path)

    assert table is not None
    assert (table.names, table.values, table.ignored_values) == (("sky", "sea"), ((7,), (0, 300)), (9,))


MALFORMED = {
    "": "must be a list of classes, but is empty",
    "sky: [1, 2, 3]": "must be a list of classes, but is a dict",
    "- {name: sky": "is not YAML",
    "- 2026-02-30": "is not YAML",
    "[" * 3000: "is nested too deeply",
    "- sky\n- {name: sea}": "entry 1 must be a mapping, but is 'sky'",
    "- {name: sky}\n- {colour: [1, 2, 3]}": "entry 2 must have a name that is text, but it is None",
    "- {name: sky}\n- {name: no}": "entry 2 must have a name that is text, but it is False: quote",
    "- {name: sky}\n- {name: sea, color: [1, 2, 3]}": "entry 2 has the unknown key color: an entry has name, colour",
    "- {name: sky}\n- {name: sea, colour: blue}": "entry 2 must have a colour of three whole numbers .* 'blue'",
    "- {name: sky}\n- {name: sea, colour: [1, 2]}": "entry 2 must have a colour of three",
    "- {name: sky}\n- {name: sea, colour: [1, 2, 256]}": "entry 2 must have a colour of three",
    "- {name: sky}\n- {name: sea, colour: [1, 2, true]}": "entry 2 must have a colour of three",
    "- {name: sky}\n- {name: sea, ignore: 1}": "entry 2 must have ignore true or false",
    "- {name: sky}\n- {name: sea}\n- {name: x, ignore: true}": "entry 3 is to be ignored and needs the colour or value",
    "- {name: sky, value: 1}\n- {name: sea, value: -1}": "entry 2 must have a value that is .* from 0 to 65535",
    "- {name: sky, value: 1}\n- {name: sea, value: []}": "entry 2 must have a value that is a whole number",
    "- {name: sky, value: 1}\n- {name: sea, value: [2, true]}": "entry 2 must have a value that is a whole number",
    "- {name: sky, value: 1}\n- {name: sea, value: [2, 1]}": "has value 1 twice: each value stands for one class",
    "- {name: sky, value: 1}\n- {name: sea}": "tells no value of sea: all classes have one or none has",
    "- {name: sky}\n- {name: sea}\n- {name: x, value: 3, ignore: true}": "tells no value of sky, sea",
    "- {name: sky}": "must name two classes or more, but names sky",
    "- {name: sky}\n- {name: sky}": "names class sky twice",
    "- {name: sky, colour: [1, 2, 3]}\n- {name: sea, colour: [1, 2, 3]}": r"has colour \[1, 2, 3\] twice",
    "- {name: sky, colour: [1, 2, 3]}\n- {name: sea}": "tells no colour of sea: all classes have one or none has",
    "- {name: sky}\n- {name: '\xff'}": "is not YAML",
}


@pytest.mark.parametrize("text", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_malformed_is_told_in_one_line(path, text):
    path.write_bytes(text.encode("latin-1"))

    table, problems = read_classes(path)

    assert table is None
    assert len(problems) == 1
    assert "\n" not in problems[0]
    assert problems[0].startswith(str(path))
    with pytest.raises(AssertionError, match=MALFORMED[text]):
        raise AssertionError(problems[0])


def test_all_that_is_malformed_is_told_at_once(path):
    path.write_text("- sky\n- {name: 1, colour: red}\n")

    assert len(read_classes(path)[1]) == 3


def test_a_missing_file_is_told_with_its_form(path):
    assert read_classes(path) == (
        None,
        [
            f"{path} does not exist: write a list of {{name: …, colour: [red, green, blue]}}, or set dataset.classes",
        ],
    )


def test_missing_colours_are_those_of_voc():
    assert complete_palette(((9, 9, 9),), 3) == ((9, 9, 9), *voc_palette(3)[1:])
    assert complete_palette(CITYSCAPES_PALETTE, 2) == CITYSCAPES_PALETTE[:2]
    assert len(set(complete_palette((), 300))) == 300


def test_a_bomb_of_aliases_goes_off_nowhere(path):
    levels = "".join(f"- &{chr(98 + level)} [*{chr(97 + level)}, *{chr(97 + level)}]\n" for level in range(24))
    path.write_text(f"- &a [x, x]\n{levels}")

    table, (problem,) = read_classes(path)

    assert table is None
    assert "is not YAML (its aliases make" in problem
    assert len(problem) < 500


def test_of_thousands_of_bad_entries_the_first_are_told_briefly(path):
    path.write_text(f"- {{name: [{'x' * 50_000}]}}\n" + "- 3\n" * 9000)

    _, problems = read_classes(path)

    assert len(problems) == 50
    assert max(map(len, problems)) < 500


@pytest.mark.parametrize("name", ["a\\nb", "a\\x1b[31m", "a\\u2028b", "a\\tb"])
def test_a_name_that_no_picture_can_show_is_refused(path, name):
    path.write_text(f'- name: "{name}"\n- name: sea\n')

    _, (problem,) = read_classes(path)

    assert "entry 1 must have a name of one line without control characters, but it is 'a" in problem
