import json
import os

import pytest

from advseg.trainers.checkpoint import save_checkpoint
from advseg.trainers.outcome import OUTCOME, Outcome, drop_outcome, read_outcome, write_outcome

FOUND = Outcome(step=12, metrics={"val/miou": 41.5, "loss/ce": 0.25}, best_miou=43.0, dataset_digest="ab12")


def test_an_outcome_is_read_as_it_was_written(tmp_path):
    write_outcome(tmp_path, FOUND)

    assert read_outcome(tmp_path) == FOUND
    assert [path.name for path in tmp_path.iterdir()] == [OUTCOME]


def test_checkpoints_are_no_outcome(tmp_path):
    save_checkpoint(tmp_path / "checkpoints", 12, {"step": 12})

    assert read_outcome(tmp_path) is None
    assert read_outcome(tmp_path / "absent") is None


def test_a_later_outcome_takes_the_place_of_an_earlier_one(tmp_path):
    write_outcome(tmp_path, Outcome(step=3, metrics={}, best_miou=0.0, dataset_digest=""))
    write_outcome(tmp_path, FOUND)

    assert read_outcome(tmp_path) == FOUND


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_crash_while_writing_leaves_the_one_before(tmp_path, monkeypatch, call):
    write_outcome(tmp_path, FOUND)

    def dying(*_) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, dying)
    with pytest.raises(KeyboardInterrupt):
        write_outcome(tmp_path, Outcome(step=24, metrics={}, best_miou=0.0, dataset_digest=""))

    assert read_outcome(tmp_path) == FOUND


WHOLE = json.dumps({"step": 1, "metrics": {}, "best_miou": 0.0, "dataset_digest": ""}).encode()


@pytest.mark.parametrize("damage", [b"", WHOLE[:-5], b"{}", b"[]", b"\xff\xfe", WHOLE.replace(b"step", b"stop")])
def test_a_damaged_one_counts_as_absent_with_a_warning(tmp_path, caplog, damage):
    (tmp_path / OUTCOME).write_bytes(damage)

    assert read_outcome(tmp_path) is None

    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"{tmp_path / OUTCOME} is damaged" in record.getMessage()


def test_a_dropped_outcome_is_gone(tmp_path):
    write_outcome(tmp_path, FOUND)

    for _ in range(2):
        drop_outcome(tmp_path)

    assert read_outcome(tmp_path) is None
