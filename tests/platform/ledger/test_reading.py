"""Who only reads a ledger makes and changes nothing."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from advseg.platform.ledger import database
from advseg.platform.ledger.ledger import Ledger
from advseg.platform.ledger.reading import (
    abandoned_sweeps,
    read_spec,
    read_sweep,
    read_sweeps,
    sweep_id_of,
    sweep_names,
)
from advseg.platform.spec.ledger_address import database_url, ledger_file
from advseg.platform.spec.spec import Spec
from advseg.trainers.errors import UserError

MakeSpec = Callable[..., Spec]
Opened = Callable[..., Ledger]

on_both = pytest.mark.parametrize("ledger_address", ["sqlite", "new postgresql"], indirect=True)


@on_both
def test_where_no_ledger_is_yet_makes_none(tmp_path: Path, ledger_address: str | None) -> None:
    place = (tmp_path / "runs", ledger_address)
    assert (read_sweeps(*place), sweep_names(*place), abandoned_sweeps(*place)) == ([], [], [])
    assert sweep_id_of(tmp_path / "runs", "probe", ledger_address) is None
    for read in (read_sweep, read_spec):
        with pytest.raises(UserError, match=r"there is no sweep probe in .*; known sweeps: none yet"):
            read(tmp_path / "runs", "probe", ledger_address)
    assert not (tmp_path / "runs").exists()
    if ledger_address is not None:
        engine = create_engine(database_url(tmp_path, ledger_address))
        assert inspect(engine).get_table_names() == []
        engine.dispose()


def test_that_is_being_made_is_none_yet(make_spec: MakeSpec, opened: Opened, tmp_path: Path) -> None:
    opened(make_spec()).close()
    with closing(sqlite3.connect(ledger_file(tmp_path))) as maker:
        maker.execute("DELETE FROM alembic_version")
        maker.commit()
        assert read_sweeps(tmp_path) == []
        assert maker.execute("SELECT * FROM alembic_version").fetchall() == []


def test_that_is_locked_says_so_and_is_there_afterwards(
    make_spec: MakeSpec, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_READER_WAIT_S", 0.01)
    opened(make_spec()).close()
    with closing(sqlite3.connect(ledger_file(tmp_path), isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("BEGIN EXCLUSIVE")
        for read in (read_sweeps, sweep_names, abandoned_sweeps):
            with pytest.raises(UserError, match=r"ledger\.db is locked by another program: try again, or end") as told:
                read(tmp_path)
            assert "restore" not in str(told.value)
            assert "\n" not in str(told.value)
    assert sweep_names(tmp_path) == ["probe"]


def test_is_not_held_up_by_an_owner_that_writes(make_spec: MakeSpec, opened: Opened, tmp_path: Path) -> None:
    opened(make_spec()).propose()
    with closing(sqlite3.connect(ledger_file(tmp_path), isolation_level=None)) as owner:
        owner.execute("BEGIN EXCLUSIVE")
        owner.execute("DELETE FROM trials")
        assert len(read_sweep(tmp_path, "probe").rows) == 1
        owner.execute("ROLLBACK")
