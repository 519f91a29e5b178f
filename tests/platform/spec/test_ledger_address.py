from pathlib import Path

import pytest

from advseg.platform.spec.ledger_address import check_address, database_url, shown


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
        "mysql://me:hunter2@host/database",
        "postgresql://me:hunter2@host",
    ],
)
def test_a_password_is_refused_and_not_echoed(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_address(url)
    assert "hunter2" not in str(caught.value)
    assert "ter2" not in str(caught.value)


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
