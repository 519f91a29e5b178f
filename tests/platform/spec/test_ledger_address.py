from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advseg.platform.spec.ledger_address import LEDGER, check_address, database_url, ledger_of, shown
from advseg.trainers.errors import UserError


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me@host/database",
        "postgresql://me@host:5433/database",
        "postgresql+psycopg://me@host/database",
        "postgresql://host/database",
        "postgresql://me@/database?host=/var/run/postgresql",
        "postgresql://me@host/database?sslmode=verify-full&passfile=/secrets/pgpass",
    ],
)
def test_an_address_of_postgresql_is_taken_as_it_is(url: str) -> None:
    assert check_address(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///runs/ledger.db",
        "postgresql://me@host:abc/database",
        "postgresql://[::1/database",
        "runs/ledger.db",
        "",
        "mysql://me@host/database",
        "postgresql+psycopg2://me@host/database",
        "postgresql://me@host",
        "postgresql://me@host/",
        "postgresql://me@host/data base",
        "postgresql://me@host/data\nbase",
    ],
)
def test_any_other_is_refused_with_the_form_that_it_must_have(url: str) -> None:
    with pytest.raises(ValueError, match="must be postgresql://user@host/database, but is "):
        check_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@host/database",
        "postgresql://me:hunter2@/database?host=/tmp",
        "postgresql://me@host/database?password=hunter2",
        "postgresql://me@host/database?sslmode=require&password=hunter2",
        "postgresql://me@host/database?sslpassword=hunter2",
        "postgresql://me:hunter2/@host/database",
        "postgresql://me:hun@ter2@host/database",
        "postgresql://me:hunter2?@host/database",
        "postgresql://me:hunter2#@host/database",
        "postgresql://me:@hunter2@host/database",
        "postgresql://:hunter2@host/database",
        "postgresql://me@host/database?PASSWORD=hunter2",
        "postgresql://me@host/database?p%61ssword=hunter2",
        "postgresql://me@host/database?p%2561ssword=hunter2",
        "postgresql://me@host/database?pass%77ord%3Dhunter2",
        "postgresql://me@host/database#password=hunter2",
        "postgresql://me@host/database;password=hunter2",
        "postgresql://me@host/database?dbname=host%3Dh%20password%3Dhunter2",
        "postgresql://me@host/database?dbname=postgresql://me:hunter2@host",
        "postgresql://me@host/database?oauth_client_secret=hunter2",
        "postgresql://me%3Ahunter2@host/database",
        "postgresql://me%253Ahunter2@host/database",
        "POSTGRESQL://me:hunter2@host/database",
        "postgresql:///me:hunter2@host/database",
        "jdbc:postgresql://host/database?user=me&password=hunter2",
        "me:hunter2@host/database",
        "postgresql:me:hunter2@host/database",
        "//me:hunter2@host/database",
        "host=host user=me password=hunter2 dbname=database",
        "host='host' user='me' password = 'hunter2'",
        "me:hunter2",
        "mysql://me:hunter2@host/database",
        "postgresql://me:hunter2@host",
    ],
)
def test_a_password_is_refused_and_not_echoed(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_address(url)
    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


@given(
    user=st.text(st.characters(codec="ascii"), max_size=8),
    joint=st.sampled_from([":", "%3A", "%253a"]),
    before=st.sampled_from(["postgresql://", "postgresql:", "u://", "//", ""]),
    after=st.sampled_from(["@host/database", "@host", "%40host/database"]),
)
def test_what_stands_before_an_at_is_shown_by_no_message(user: str, joint: str, before: str, after: str) -> None:
    address = f"{before}{user}{joint}hunter2{after}"
    assert "hunter2" not in shown(address)
    with pytest.raises(ValueError) as caught:
        check_address(address)
    assert "hunter2" not in str(caught.value)


def test_a_password_is_to_be_put_where_it_belongs() -> None:
    with pytest.raises(ValueError) as caught:
        check_address("postgresql://me:hunter2@host/database")
    assert str(caught.value) == (
        "postgresql://...@host/database holds a password, which a spec must not: remove it, and put it into the file "
        "that PGPASSFILE names on the nodes of the cluster"
    )


def test_an_address_is_shown_without_its_user_and_its_options() -> None:
    assert shown("postgresql://me@host/database?passfile=/secrets") == "postgresql://...@host/database"
    assert shown("postgresql://host/database") == "postgresql://host/database"


@pytest.mark.parametrize(
    ("ledger", "url"),
    [
        (None, "sqlite:////runs/ledger.db"),
        ("postgresql://me@host/database", "postgresql+psycopg://me@host/database"),
        ("postgresql+psycopg://me@host/database", "postgresql+psycopg://me@host/database"),
    ],
)
def test_sqlalchemy_is_told_the_driver(ledger: str | None, url: str) -> None:
    assert database_url(Path("/runs"), ledger) == url


class TestWhichLedger:
    TEAM, NAMED = "postgresql://team@host/database", "postgresql://me@host/other"

    @pytest.mark.parametrize(
        ("named", "variable", "meant"),
        [(None, None, None), (None, "", None), (None, TEAM, TEAM), (NAMED, TEAM, NAMED), (NAMED, "no address", NAMED)],
    )
    def test_is_the_one_that_is_named_or_the_teams(
        self, named: str | None, variable: str | None, meant: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(LEDGER, raising=False)
        if variable is not None:
            monkeypatch.setenv(LEDGER, variable)
        assert ledger_of(named) == meant

    @pytest.mark.parametrize("variable", ["runs/ledger.db", "postgresql://me:hunter2@host/database"])
    def test_is_refused_by_the_variables_name_where_it_is_none(
        self, variable: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(LEDGER, variable)
        with pytest.raises(
            UserError, match=r"^ADVSEG_LEDGER (must be|postgresql://\.\.\.@host/database holds)"
        ) as said:
            ledger_of(None)
        assert "hunter2" not in str(said.value)
