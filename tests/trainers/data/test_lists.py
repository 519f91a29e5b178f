import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.trainers.data.lists import Entry, is_list_file, parse_entry, read_list, read_order
from advseg.trainers.errors import UserError


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "list.txt"


LINES = {
    "2007_000032": Entry(image="2007_000032"),
    "JPEGImages/a.jpg SegmentationClass/a.png": Entry(image="JPEGImages/a.jpg", mask="SegmentationClass/a.png"),
    "JPEGImages/a.jpg": Entry(image="JPEGImages/a.jpg"),
    "/JPEGImages/a.jpg\t/SegmentationClassAug/a.png": Entry(
        image="/JPEGImages/a.jpg", mask="/SegmentationClassAug/a.png"
    ),
    "/JPEGImages/a.jpg /SegmentationClassAug/a.png": Entry(
        image="/JPEGImages/a.jpg", mask="/SegmentationClassAug/a.png"
    ),
    "aachen/aachen_0_19_leftImg8bit.png": Entry(image="aachen/aachen_0_19_leftImg8bit.png"),
    "a\tb": Entry(image="a", mask="b"),
    "a.jpg\t": Entry(image="a.jpg"),
    "images/a.PNG   masks/a.png": Entry(image="images/a.PNG", mask="masks/a.png"),
    "my photo 1": Entry(image="my photo 1"),
    "my photo.jpg": Entry(image="my photo.jpg"),
    "my photo.jpg its mask.png": Entry(image="my photo.jpg", mask="its mask.png"),
    "a.jpg by me": Entry(image="a.jpg by me"),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_every_published_form_is_understood(line):
    assert parse_entry(line) == LINES[line]


@given(st.lists(st.text("ab1_- .", min_size=1).map(str.strip).filter(bool), min_size=1))
def test_ids_survive_whatever_spaces_they_hold(tmp_path_factory, ids):
    path = tmp_path_factory.getbasetemp() / "ids.txt"
    path.write_text("\n".join(ids))

    assert [entry.image for entry in read_list(path)] == ids


@pytest.mark.parametrize("content", [b"a\nb", b"a\nb\n", b"\n\na\n\n \nb\n\n", b"a\r\nb\r\n", b"\xef\xbb\xbfa\nb\n"])
def test_line_ends_blank_lines_and_a_byte_order_mark_do_not_count(path, content):
    path.write_bytes(content)

    assert read_list(path) == [Entry(image="a"), Entry(image="b")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b" \n", r"list\.txt is empty"),
        (b"\xff\xfea\0", r"list\.txt is not UTF-8 text: save it"),
        (b"a\nb\tc\td\n", r"line 2 of list .*list\.txt has 3 parts between tabs"),
    ],
)
def test_a_list_that_is_none_is_refused_in_one_line(path, content, message):
    path.write_bytes(content)

    with pytest.raises(UserError, match=message) as caught:
        read_list(path)

    assert "\n" not in str(caught.value)


def test_a_missing_list_is_named(path):
    with pytest.raises(UserError, match=r"list\.txt does not exist: write one image id per line"):
        read_list(path)


def test_a_folder_in_place_of_a_list_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_list(tmp_path)


@pytest.mark.parametrize(
    ("name", "file"), [("train", False), ("lists/train", True), ("train.txt", True), ("order.pkl", True)]
)
def test_what_has_a_slash_or_a_lists_suffix_is_a_file(name, file):
    assert is_list_file(name) is file


permutations = st.integers(1, 400).flatmap(lambda count: st.permutations(range(count)))


@given(permutations, st.sampled_from(range(pickle.HIGHEST_PROTOCOL + 1)))
def test_a_pickled_list_is_read_in_every_protocol(tmp_path_factory, order, protocol):
    path = tmp_path_factory.getbasetemp() / "order.pkl"
    path.write_bytes(pickle.dumps(list(order), protocol))

    assert read_order(path, len(order)) == list(order)


@given(permutations, st.sampled_from([3, 4, 5]), st.sampled_from(["<i4", "<i8"]))
def test_a_pickled_array_is_read_as_published_ones_are(tmp_path_factory, order, protocol, kind):
    path = tmp_path_factory.getbasetemp() / "order.pkl"
    path.write_bytes(pickle.dumps(np.array(order, kind), protocol))

    assert read_order(path, len(order)) == list(order)


PUBLISHED = (
    b"\x80\x03cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nq\x01K\x00\x85q\x02C\x01bq\x03\x87q\x04Rq\x05"
    b"(K\x01K\x03\x85q\x06cnumpy\ndtype\nq\x07X\x02\x00\x00\x00i8q\x08K\x00K\x01\x87q\tRq\n(K\x03X\x01\x00\x00\x00<"
    b"q\x0bNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0cb\x89C\x18"
    + np.array([2, 0, 1], "<i8").tobytes()
    + b"q\rtq\x0eb."
)


def test_an_array_that_an_older_numpy_pickled_is_read(tmp_path):
    (tmp_path / "order.pkl").write_bytes(PUBLISHED)

    assert read_order(tmp_path / "order.pkl", 3) == [2, 0, 1]


def test_an_order_is_text_as_well(path):
    path.write_text("2\n0 1\n\n3")

    assert read_order(path, 4) == [2, 0, 1, 3]


class Trap:
    """Writes a file if it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("hide", [lambda trap: trap, lambda trap: [0, trap], lambda trap: (np.arange(2), trap)])
def test_a_pickle_is_never_carried_out(tmp_path, hide):
    sprung = tmp_path / "sprung"
    (tmp_path / "order.pkl").write_bytes(pickle.dumps(hide(Trap(sprung))))

    with pytest.raises(UserError, match=r"order\.pkl is no pickled list .*: if you trust it, run python -c"):
        read_order(tmp_path / "order.pkl", 2)

    assert not sprung.exists()


@pytest.mark.parametrize(
    "value",
    [[[0], [1]], [0.0, 1.0], ["0", "1"], [True, False], (0, 1), {0: 1}, np.array([0.0, 1.0]), [np.int64(0)], "", None],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_what_else_is_pickled_is_refused_with_the_way_to_convert_it(tmp_path, value, protocol):
    (tmp_path / "order.pkl").write_bytes(pickle.dumps(value, protocol))

    with pytest.raises(UserError, match=r"> order\.txt and name that") as caught:
        read_order(tmp_path / "order.pkl", 2)

    assert "\n" not in str(caught.value)


@given(st.binary(max_size=60) | st.integers(0, len(PUBLISHED)).map(lambda end: PUBLISHED[:end]))
def test_whatever_a_pickle_holds_it_is_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.pkl"
    path.write_bytes(content)

    try:
        assert read_order(path, 3) == [2, 0, 1]
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0 1 2 2", "4 indices, 3 of them different and 0 out of range"),
        ("0 1 2", "3 indices, 3 of them different and 0 out of range"),
        ("0 1 2 4", "4 indices, 4 of them different and 1 out of range"),
        ("1 2 3 4", "1 out of range"),
        ("0 1 2 -1", "1 out of range"),
    ],
)
def test_an_order_that_is_no_permutation_of_the_list_is_refused(path, text, found):
    path.write_text(text)

    with pytest.raises(UserError, match=rf"{found}.*must hold each of 0 to 3 once"):
        read_order(path, 4)


@pytest.mark.parametrize("text", ["0 one", "0.5", "\xff"])
def test_an_order_that_is_not_of_whole_numbers_is_refused(path, text):
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(UserError, match=r"list\.txt is no list of whole numbers: mend it"):
        read_order(path, 2)


def test_a_missing_order_is_named(path):
    with pytest.raises(UserError, match=r"order .*list\.txt does not exist"):
        read_order(path, 2)


def test_a_line_of_many_names_is_read_in_time(path):
    """Looking for two paths in it from every place in turn would take hours."""
    path.write_text("a.png " * 200_000 + "b\n")

    (entry,) = read_list(path)

    assert entry == Entry(image="a.png " * 200_000 + "b")
