from pathlib import Path

import pytest

from advseg.platform.tracking.spool import Spool, has_unsent, read_records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "metrics.jsonl"


def records(*steps: int) -> list[dict[str, int]]:
    return [{"step": step} for step in steps]


def test_records_stay_in_order_over_reopening(path: Path) -> None:
    for step in (1, 2, 3):
        Spool(path).append({"step": step})
    assert Spool(path).records() == records(1, 2, 3)


def test_a_new_one_is_empty(path: Path) -> None:
    assert Spool(path).records() == Spool(path).unsent() == []


def test_a_line_that_a_crash_cut_short_is_dropped(path: Path) -> None:
    Spool(path).append({"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "me')
    spool = Spool(path)
    assert spool.records() == records(1)
    spool.append({"step": 2})
    assert Spool(path).records() == records(1, 2)


def test_another_process_reads_whole_records_and_changes_nothing(path: Path) -> None:
    assert read_records(path) == []
    Spool(path).append({"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "me')
    written = path.read_bytes()
    assert read_records(path) == records(1)
    assert path.read_bytes() == written


def test_unsent_are_those_after_the_mark_also_after_reopening(path: Path) -> None:
    spool = Spool(path)
    for step in (1, 2, 3):
        spool.append({"step": step})
    spool.mark_sent(1)
    spool.mark_sent(1)
    assert spool.unsent() == Spool(path).unsent() == records(3)
    assert spool.records() == records(1, 2, 3)


def test_records_lost_with_the_machine_do_not_hide_later_ones(path: Path) -> None:
    spool = Spool(path)
    for step in (1, 2, 3):
        spool.append({"step": step})
    spool.mark_sent(3)
    path.write_text('{"step": 1}\n')
    again = Spool(path)
    again.append({"step": 2})
    assert again.unsent() == records(2)


def test_another_process_sees_whether_anything_is_left_to_send(path: Path) -> None:
    assert not has_unsent(path)
    spool = Spool(path)
    for step in (1, 2):
        spool.append({"step": step})
    assert has_unsent(path)
    spool.mark_sent(2)
    assert not has_unsent(path)


def test_what_comes_after_the_mark_is_unsent_also_in_other_alphabets(path: Path) -> None:
    spool = Spool(path)
    for name in ("é", "中", "z"):
        spool.append({"name": name})
    spool.mark_sent(1)
    assert spool.unsent() == Spool(path).unsent() == [{"name": "中"}, {"name": "z"}]
    spool.mark_sent(1)
    spool.append({"name": "ß"})
    assert spool.unsent() == Spool(path).unsent() == [{"name": "z"}, {"name": "ß"}]
