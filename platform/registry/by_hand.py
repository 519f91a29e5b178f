"""Whoever knows better moves the champion, and takes a move back."""

from mlflow.tracking import MlflowClient

from ...trainers.errors import UserError
from .history import move_alias, permitted, read_past, versions_of
from .moves import Move, Past
from .registry import CHAMPION, find_model, find_version


def promote(client: MlflowClient, reference: str, why: str) -> str:
    """Make `<name>@<version or alias>` the champion; return what happened, in words. Raises UserError."""
    name, _, wanted = reference.partition("@")
    if not wanted:
        raise UserError(f"{reference!r} must be <name>@<version> or <name>@<alias>, as in shapes@3")
    version = int(find_version(client, name, wanted).version)

    def decide(past: Past) -> Move | None:
        return None if past.seated(CHAMPION) == version else past.move(CHAMPION, version, why)

    with permitted(client, name):
        record = move_alias(client, name, decide, _by_hand)
    if record is None:
        return f"{name}@{CHAMPION} is version {version} already"
    return f"{name}@{record.move}"


def rollback(client: MlflowClient, name: str) -> str:
    """Bring back the champion before the last move; another time, the one before that. Return it in words.

    Raises UserError if there was none, or somebody moves an alias meanwhile.
    """
    find_model(client, name)
    seen = read_past(client, name).newest
    existing = {int(version.version) for version in versions_of(client, name)}

    def decide(past: Past) -> Move:
        if past.newest != seen:
            raise UserError(f"somebody moved an alias of {name} just now: look at `advseg models history {name}` first")
        if (before := past.before(CHAMPION, existing)) is None:
            raise UserError(
                f"no earlier champion of {name} is still there: `advseg models promote {name}@VERSION` makes any "
                "version the champion"
            )
        return past.move(CHAMPION, before, "rolled back", rollback=True)

    with permitted(client, name):
        record = move_alias(client, name, decide, _by_hand)
    assert record
    return f"{name}@{record.move}"


def _by_hand() -> None:
    """Nobody has to own anything."""
