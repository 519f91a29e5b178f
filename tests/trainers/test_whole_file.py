import threading
from pathlib import Path

import pytest

from advseg.trainers.whole_file import replace_whole, write_whole


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path, durable: bool) -> None:
    for text in ("old", "new"):
        write_whole(tmp_path / "a.json", text, durable=durable)
    assert (tmp_path / "a.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_file_that_fails_to_be_written_stays_as_it_was(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "old")

    def half(partial: Path) -> None:
        partial.write_text("ha")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        replace_whole(tmp_path / "a.json", half)
    assert (tmp_path / "a.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_writers_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    texts = [str(number) * 10_000 for number in range(4)]
    errors: list[Exception] = []

    def write(text: str) -> None:
        try:
            for _ in range(50):
                write_whole(tmp_path / "a.json", text)
                assert (tmp_path / "a.json").read_text() in texts
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
