"""The accounts of all trials, in a table of their own: they are written also after a trial's end."""

from collections.abc import Iterable
from dataclasses import asdict

from sqlalchemy import Engine, RowMapping, select

from ..workers.account import Account
from .ownership import require_epoch
from .patience import repeated
from .schema import ACCOUNTS


@repeated
def read_accounts(engine: Engine, sweep_id: str, numbers: Iterable[int] | None = None) -> dict[int, Account]:
    """Accounts by trial number, of all trials or of some."""
    query = select(ACCOUNTS).where(ACCOUNTS.c.sweep_id == sweep_id)
    if numbers is not None:
        query = query.where(ACCOUNTS.c.number.in_(list(numbers)))
    with engine.connect() as connection:
        return accounts_from(connection.execute(query).mappings().all())


def accounts_from(rows: Iterable[RowMapping]) -> dict[int, Account]:
    """Accounts by trial number, of rows of this version or an older one."""
    names = Account.__dataclass_fields__
    return {row["number"]: Account(**{name: row[name] for name in names if name in row}) for row in rows}


@repeated
def write_account(engine: Engine, sweep_id: str, epoch: int, number: int, account: Account) -> None:
    """Hold a trial's account. Raises FencedError if the sweep has an owner of a newer epoch."""
    mine = (ACCOUNTS.c.sweep_id == sweep_id, ACCOUNTS.c.number == number)
    with engine.begin() as connection:
        if not connection.execute(ACCOUNTS.update().where(*mine).values(**asdict(account))).rowcount:
            connection.execute(ACCOUNTS.insert().values(sweep_id=sweep_id, number=number, **asdict(account)))
        require_epoch(connection, sweep_id, epoch)
