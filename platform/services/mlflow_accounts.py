"""The account of the local MLflow server: its password, the server's settings, and a page that logs a browser in.

All lies in the server's folder, for its owner's eyes alone. The owner may make accounts for others in the UI.
"""

import secrets
from pathlib import Path
from urllib.parse import urlsplit

from ...models.local_server import PASSWORD, USER
from ...trainers.whole_file import replace_whole

CONFIGURATION = "MLFLOW_AUTH_CONFIG_PATH"
"""Environment variable of a server that asks for accounts."""
LOGIN = "/login"
"""Path of the server's address to which a browser goes first."""
_PAGE = """<!doctype html>
<meta charset="utf-8">
<title>MLflow</title>
<script>location.replace({address!r} + location.hash)</script>
"""


def password_path(folder: Path) -> Path:
    return folder / PASSWORD


def configuration_path(folder: Path) -> Path:
    return folder / "accounts.ini"


def accounts_database(folder: Path) -> Path:
    return folder / "accounts.db"


def page_path(folder: Path) -> Path:
    return folder / "open.html"


def prepare_account(folder: Path, url: str) -> None:
    """Write what the server at `url` needs to know one account, and its password if there is none yet."""
    if not _has_text(password_path(folder)):
        # Those that the database knows are of another password.
        accounts_database(folder).unlink(missing_ok=True)
    password = ensure_secret(password_path(folder))
    settings = {
        "admin_username": USER,
        "default_permission": "READ",
        "database_uri": f"sqlite:///{accounts_database(folder)}".replace("%", "%%"),
        "authorization_function": f"{__package__}.mlflow_access:authorize",
        # Without it every request hashes a password anew, for a third of a second.
        "auth_cache_ttl_seconds": "600",
    }
    lines = (f"{name} = {value}\n" for name, value in settings.items())
    _write_private(configuration_path(folder), "".join(("[mlflow]\n", *lines)))
    address = urlsplit(url)._replace(netloc=f"{USER}:{password}@{urlsplit(url).netloc}", path=LOGIN).geturl()
    _write_private(page_path(folder), _PAGE.format(address=address))


def ensure_secret(path: Path) -> str:
    """The secret in a file, generated unless there is one; only the file's owner may read it."""
    if not _has_text(path):
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    path.chmod(0o600)
    return path.read_text()


def _write_private(path: Path, text: str) -> None:
    def write(partial: Path) -> None:
        partial.touch(mode=0o600)
        partial.write_text(text)

    replace_whole(path, write)


def _has_text(path: Path) -> bool:
    return path.exists() and path.read_text() != ""
