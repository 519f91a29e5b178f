import json
from pathlib import Path

import pytest

from advseg.platform.tracking.spool import Record, Spool, has_unsent, read_records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "metrics.jsonl"


def record(step: int, name: str = "val/miou") -> Record:
    return {"step": step, "timestamp": 1000 + step, "metrics": {name: 1.5}}


def records(*steps: int) -> list[Record]:
    return [record(step) for step in steps]


def test_records_stay_in_order_over_reopening(path: Path) -> None:
    for step in (1, 2, 3):
        Spool(path).append(record(step))
    assert Spool(path).records() == records(1, 2, 3)


def test_a_new_one_is_empty(path: Path) -> None:
    assert Spool(path).records() == Spool(path).unsent() == []


def test_a_line_that_a_crash_cut_short_is_dropped_by_whoever_takes_it(path: Path) -> None:
    Spool(path).append(record(1))
    with path.open("a") as file:
        file.write('{"step": 2, "me')
    spool = Spool(path)
    spool.take()
    assert spool.records() == records(1)
    spool.append(record(2))
    assert Spool(path).records() == records(1, 2)


def test_another_process_reads_whole_records_and_changes_nothing(path: Path) -> None:
    assert read_records(path) == []
    Spool(path).append(record(1))
    with path.open("a") as file:
        file.write('{"step": 2, "me')
    written = path.read_bytes()
    assert read_records(path) == records(1)
    assert path.read_bytes() == written


def test_unsent_are_those_after_the_mark_also_after_reopening(path: Path) -> None:
    spool = Spool(path)
    for step in (1, 2, 3):
        spool.append(record(step))
    spool.mark_sent(1)
    spool.mark_sent(1)
    assert spool.unsent() == Spool(path).unsent() == records(3)
    assert spool.records() == records(1, 2, 3)


def test_records_lost_with_the_machine_do_not_hide_later_ones(path: Path) -> None:
    spool = Spool(path)
    for step in (1, 2, 3):
        spool.append(record(step))
    spool.mark_sent(3)
    path.write_text(f"{json.dumps(record(1))}\n")
    again = Spool(path)
    again.take()
    again.append(record(2))
    assert again.unsent() == records(2)


def test_another_process_sees_whether_anything_is_left_to_send(path: Path) -> None:
    assert not has_unsent(path)
    spool = Spool(path)
    for step in (1, 2):
        spool.append(record(step))
    assert has_unsent(path)
    spool.mark_sent(2)
    assert not has_unsent(path)


def test_what_comes_after_the_mark_is_unsent_also_in_other_alphabets(path: Path) -> None:
    spool = Spool(path)
    for step, name in enumerate(("é", "中", "z")):
        spool.append(record(step, name))
    spool.mark_sent(1)
    assert spool.unsent() == Spool(path).unsent() == [record(1, "中"), record(2, "z")]
    spool.mark_sent(1)
    spool.append(record(3, "ß"))
    assert spool.unsent() == Spool(path).unsent() == [record(2, "z"), record(3, "ß")]


def test_one_that_is_being_written_to_is_sent_without_a_change(path: Path) -> None:
    """The line that another process has not finished is that process's."""
    writing = Spool(path)
    writing.append(record(1))
    with path.open("a") as file:
        file.write(json.dumps(record(2))[:20])
        file.flush()
        other = Spool(path)
        assert other.unsent() == records(1)
        other.mark_sent(1)
        file.write(json.dumps(record(2))[20:] + "\n")
    assert read_records(path) == records(1, 2)
    assert Spool(path).unsent() == records(2)


@pytest.mark.parametrize(
    "damaged",
    [
        b"\0" * 64,
        b"{",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"",
        b'{"step": 2, "timestamp": 3}',
        b'{"step": "2", "timestamp": 3, "metrics": {}}',
        b'{"step": 2, "timestamp": 3, "metrics": {"a": "b"}}',
        b'{"step": 2, "timestamp": 3, "metrics": [1]}',
    ],
)
def test_a_damaged_line_is_passed_over_and_hides_none(path: Path, damaged: bytes) -> None:
    """As a power cut leaves it."""
    spool = Spool(path)
    spool.append(record(1))
    with path.open("ab") as file:
        file.write(damaged + b"\n")
    spool.append(record(3))
    assert read_records(path) == records(1, 3)
    assert spool.unsent() == [record(1), None, record(3)]
    spool.mark_sent(2)
    assert Spool(path).unsent() == records(3)
    assert has_unsent(path)


@pytest.mark.parametrize("damaged", [b"", b"\0\0\0", b"two", b"-3", b"\xff"])
def test_a_damaged_mark_has_all_sent_again(path: Path, damaged: bytes) -> None:
    spool = Spool(path)
    for step in (1, 2):
        spool.append(record(step))
    spool.mark_sent(2)
    path.with_suffix(".sent").write_bytes(damaged)
    assert has_unsent(path)
    assert Spool(path).unsent() == records(1, 2)


def test_what_went_to_another_run_is_unsent(path: Path) -> None:
    spool = Spool(path)
    for step in (1, 2):
        spool.append(record(step))
    assert spool.unsent("a") == records(1, 2)
    spool.mark_sent(2)
    assert not has_unsent(path, "a")
    assert Spool(path).unsent("a") == []
    assert has_unsent(path, "b")
    assert Spool(path).unsent("b") == records(1, 2)


def test_a_mark_of_a_version_that_noted_no_run_counts_for_any(path: Path) -> None:
    Spool(path).append(record(1))
    path.with_suffix(".sent").write_text("1")
    assert not has_unsent(path, "a")
    assert Spool(path).unsent("a") == []
